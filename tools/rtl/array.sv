// The machine of docs/machine.md: its parts and the registers they share.
module array
  import machine::*;
(
    input logic clk,
    input longint host,
    input logic os,
    input logic bias_tiled,
    input logic scale_step,
    input logic requantised,
    input int requests,
    input int blocks,
    input int zero_point,
    input int low,
    input int high
);
  logic seq_active /*verilator public_flat_rw*/;
  row_t seq_row /*verilator public_flat_rw*/;
  logic [23:0] seq_pc /*verilator public_flat_rw*/;
  logic in_prop /*verilator public_flat_rw*/;
  id_t seq_id /*verilator public_flat_rw*/;
  logic seq_dataflow /*verilator public_flat_rw*/;
  shift_t seq_shift /*verilator public_flat_rw*/;
  logic seq_act_on /*verilator public_flat_rw*/;
  act_address_t seq_act_address /*verilator public_flat_rw*/;
  logic seq_wgt_on /*verilator public_flat_rw*/;
  wgt_address_t seq_wgt_address /*verilator public_flat_rw*/;
  logic tag_result[ENTRIES] /*verilator public_flat_rw*/;
  logic tag_accumulate[ENTRIES] /*verilator public_flat_rw*/;
  logic tag_final[ENTRIES] /*verilator public_flat_rw*/;
  acc_address_t tag_base[ENTRIES] /*verilator public_flat_rw*/;
  kept_t tag_kept[ENTRIES] /*verilator public_flat_rw*/;
  logic [15:0] tag_bias[ENTRIES] /*verilator public_flat_rw*/;

  act_t buf_a[ROWS] /*verilator public_flat_rw*/;
  edge_t buf_b[COLS] /*verilator public_flat_rw*/;
  edge_t buf_d[COLS] /*verilator public_flat_rw*/;
  logic buf_propagate /*verilator public_flat_rw*/;
  logic buf_dataflow /*verilator public_flat_rw*/;
  logic buf_valid /*verilator public_flat_rw*/;
  logic buf_last /*verilator public_flat_rw*/;
  shift_t buf_shift /*verilator public_flat_rw*/;
  id_t buf_id /*verilator public_flat_rw*/;

  act_t skew_a[ROWS*ROWS] /*verilator public_flat_rw*/;
  edge_t skew_b[COLS*COLS] /*verilator public_flat_rw*/;
  edge_t skew_d[COLS*COLS] /*verilator public_flat_rw*/;
  logic skew_valid[COLS*COLS] /*verilator public_flat_rw*/;
  logic skew_control_propagate[COLS*COLS] /*verilator public_flat_rw*/;
  logic skew_control_dataflow[COLS*COLS] /*verilator public_flat_rw*/;
  logic skew_control_last[COLS*COLS] /*verilator public_flat_rw*/;
  shift_t skew_control_shift[COLS*COLS] /*verilator public_flat_rw*/;
  id_t skew_control_id[COLS*COLS] /*verilator public_flat_rw*/;

  psum_t out_b[COLS] /*verilator public_flat_rw*/;
  psum_t out_c[COLS] /*verilator public_flat_rw*/;
  logic out_dataflow[COLS] /*verilator public_flat_rw*/;
  logic out_valid[COLS] /*verilator public_flat_rw*/;
  logic out_last[COLS] /*verilator public_flat_rw*/;
  id_t out_id[COLS] /*verilator public_flat_rw*/;
  psum_t deskew_data[COLS*COLS] /*verilator public_flat_rw*/;
  logic deskew_valid[COLS] /*verilator public_flat_rw*/;
  logic deskew_last[COLS] /*verilator public_flat_rw*/;
  id_t deskew_id[COLS] /*verilator public_flat_rw*/;

  acc_t accumulator[ACC_ROWS][COLS] /*verilator public_flat_rw*/;
  logic [15:0] blocks_done /*verilator public_flat_rw*/;

  sequencer sequencer (.*);
  operands operands (.*);

  skew_line #(act_t, ROWS) line_a (.clk, .from(buf_a), .stage(skew_a));
  skew_line #(edge_t, COLS) line_b (.clk, .from(buf_b), .stage(skew_b));
  skew_line #(edge_t, COLS) line_d (.clk, .from(buf_d), .stage(skew_d));
  skew_control #(logic, COLS) line_valid (.clk, .from(buf_valid), .stage(skew_valid));
  skew_control #(logic, COLS) line_propagate (
      .clk, .from(buf_propagate), .stage(skew_control_propagate));
  skew_control #(logic, COLS) line_dataflow (.clk, .from(buf_dataflow), .stage(skew_control_dataflow));
  skew_control #(logic, COLS) line_last (.clk, .from(buf_last), .stage(skew_control_last));
  skew_control #(shift_t, COLS) line_shift (.clk, .from(buf_shift), .stage(skew_control_shift));
  skew_control #(id_t, COLS) line_id (.clk, .from(buf_id), .stage(skew_control_id));

  mesh mesh (.*);
  deskew deskew (.*);
  accumulator_unit accumulator_unit (.*);
  drain drain (.*);
endmodule
