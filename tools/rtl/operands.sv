// Sections 3, 5 and 8: the operand buffers (filled by the harness), the fetch of a fired row, the edge registers.
module operands
  import machine::*;
(
    input logic clk,
    input longint host,
    input logic os,
    input logic seq_active,
    input row_t seq_row,
    input logic [23:0] seq_pc,
    input logic in_prop,
    input id_t seq_id,
    input logic seq_dataflow,
    input shift_t seq_shift,
    input logic seq_act_on,
    input act_address_t seq_act_address,
    input logic seq_wgt_on,
    input wgt_address_t seq_wgt_address,
    output act_t buf_a[ROWS],
    output edge_t buf_b[COLS],
    output edge_t buf_d[COLS],
    output logic buf_propagate,
    output logic buf_dataflow,
    output logic buf_valid,
    output logic buf_last,
    output shift_t buf_shift,
    output id_t buf_id
);
  act_t act_buffer[ACT_ROWS][ROWS] /*verilator public_flat_rw*/;
  wgt_t wgt_buffer[WGT_ROWS][COLS] /*verilator public_flat_rw*/;
  // Not on the path of these programs: they hold.
  act_t transposer[ROWS][ROWS] /*verilator public_flat_rw*/;
  logic transposer_control[5] /*verilator public_flat_rw*/;
  shift_t late_shift /*verilator public_flat_rw*/;

  act_address_t act_address;
  wgt_address_t wgt_address;
  act_t act[ROWS];
  edge_t wgt[COLS], stream[COLS];
  int words[COLS];

  always_ff @(posedge clk) begin
    buf_valid <= seq_active;
    buf_shift <= late_shift;
    if (seq_active) begin
      act_address = seq_act_address + act_address_t'(seq_row);
      wgt_address = seq_wgt_address + wgt_address_t'(seq_row);
      for (int unsigned r = 0; r < ROWS; r++) act[r] = '0;
      if (seq_act_on && int'(act_address) < ACT_ROWS) act = act_buffer[act_address];
      for (int unsigned c = 0; c < COLS; c++) wgt[c] = '0;
      if (seq_wgt_on && int'(wgt_address) < WGT_ROWS)
        for (int unsigned c = 0; c < COLS; c++) wgt[c] = edge_t'(wgt_buffer[wgt_address][c]);
      host_stream(host, (longint'(seq_pc) - 64'sd1) * longint'(ROWS) + longint'(seq_row), words);
      for (int unsigned c = 0; c < COLS; c++) stream[c] = edge_t'(words[c]);
      buf_a <= act;
      if (os) begin
        buf_b <= wgt;
        buf_d <= stream;
      end else begin
        buf_b <= stream;
        buf_d <= wgt;
      end
      buf_propagate <= in_prop;
      buf_dataflow <= seq_dataflow;
      buf_id <= seq_id;
      buf_last <= int'(seq_row) >= ROWS - 1;
      late_shift <= seq_shift;
    end
  end
endmodule
