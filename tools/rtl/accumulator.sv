// Section 6: result rows into the accumulator memory, in two stages.
module accumulator_unit
  import machine::*;
(
    input logic clk,
    input longint host,
    input logic os,
    input logic bias_tiled,
    input psum_t out_b[COLS],
    input psum_t out_c[COLS],
    input logic out_dataflow[COLS],
    input logic out_valid[COLS],
    input logic out_last[COLS],
    input id_t out_id[COLS],
    input psum_t deskew_data[COLS*COLS],
    input logic deskew_valid[COLS],
    input logic deskew_last[COLS],
    input id_t deskew_id[COLS],
    input logic tag_result[ENTRIES],
    input logic tag_accumulate[ENTRIES],
    input logic tag_final[ENTRIES],
    input acc_address_t tag_base[ENTRIES],
    input kept_t tag_kept[ENTRIES],
    input logic [15:0] tag_bias[ENTRIES],
    output acc_t accumulator[ACC_ROWS][COLS],
    output logic [15:0] blocks_done
);
  row_t result_count /*verilator public_flat_rw*/;
  logic write_valid[2] /*verilator public_flat_rw*/;
  logic write_final[2] /*verilator public_flat_rw*/;
  acc_address_t write_address[2] /*verilator public_flat_rw*/;
  mask_t write_mask[2][COLS] /*verilator public_flat_rw*/;
  logic write_accumulate /*verilator public_flat_rw*/;
  psum_t write_data[COLS] /*verilator public_flat_rw*/;
  acc_t write_bias[COLS] /*verilator public_flat_rw*/;
  acc_t write_sum[COLS] /*verilator public_flat_rw*/;

  logic valid, last, kept;
  id_t id;
  int row;
  int words[COLS];
  psum_t data[COLS];
  acc_t bias[COLS], addend[COLS], sum[COLS], stored[COLS];
  mask_t mask[COLS];

  // A result row loads stage 0.
  always_ff @(posedge clk) begin
    valid = COLS == 1 ? out_valid[0] : deskew_valid[0];
    last = COLS == 1 ? out_last[0] : deskew_last[0];
    id = COLS == 1 ? out_id[0] : deskew_id[0];
    write_valid[0] <= 1'b0;
    write_final[0] <= 1'b0;
    if (valid && tag_result[id]) begin
      observe_result(host);
      row = os ? ROWS - 1 - int'(result_count) : int'(result_count);
      kept = row >= 0 && row < int'(tag_kept[id]);
      for (int unsigned c = 0; c + 1 < COLS; c++) data[c] = deskew_data[c];
      data[COLS-1] = out_dataflow[0] ? out_c[COLS-1] : out_b[COLS-1];
      for (int unsigned c = 0; c < COLS; c++) mask[c] = '1;
      result_count <= int'(result_count) >= ROWS - 1 ? '0 : result_count + 1'b1;
      write_valid[0] <= kept;
      write_final[0] <= last && tag_final[id];
      write_address[0] <= tag_base[id] + acc_address_t'(row);
      write_accumulate <= tag_accumulate[id];
      write_mask[0] <= mask;
      write_data <= data;
      if (kept && !tag_accumulate[id]) begin
        host_bias(host, bias_tiled ? longint'(tag_bias[id]) * ROWS + longint'(row) : longint'(tag_bias[id]), words);
        for (int unsigned c = 0; c < COLS; c++) bias[c] = acc_t'(words[c]);
        write_bias <= bias;
      end
    end
  end

  // Stage 0 into stage 1: the sum.
  always_ff @(posedge clk) begin
    write_valid[1] <= write_valid[0];
    write_final[1] <= write_final[0];
    if (write_final[1]) blocks_done <= blocks_done + 1'b1;
    if (write_valid[0]) begin
      write_address[1] <= write_address[0];
      write_mask[1] <= write_mask[0];
      if (!write_accumulate) addend = write_bias;
      else if (int'(write_address[0]) < ACC_ROWS) addend = accumulator[write_address[0]];
      else for (int unsigned c = 0; c < COLS; c++) addend[c] = '0;
      for (int unsigned c = 0; c < COLS; c++) sum[c] = accumulate(addend[c], write_data[c]);
      write_sum <= sum;
    end
  end

  // Stage 1 into the memory, byte by byte.
  always_ff @(posedge clk) begin
    if (write_valid[1] && int'(write_address[1]) < ACC_ROWS) begin
      for (int unsigned c = 0; c < COLS; c++) begin
        automatic acc_t bits = '0;
        for (int unsigned i = 0; i < MASK_BITS; i++) bits[8*i+:8] = {8{write_mask[1][c][i]}};
        stored[c] = (write_sum[c] & bits) | (accumulator[write_address[1]][c] & ~bits);
      end
      accumulator[write_address[1]] <= stored;
    end
  end
endmodule
