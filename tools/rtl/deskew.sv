// Section 4: the deskewing lines, stored at stage * COLS + column; column c has COLS-1-c stages, stage 0 is the one
// nearest the result. Places beyond are no registers and stay 0.
module deskew
  import machine::*;
(
    input logic clk,
    input psum_t out_b[COLS],
    input psum_t out_c[COLS],
    input logic out_dataflow[COLS],
    input logic out_valid[COLS],
    input logic out_last[COLS],
    input id_t out_id[COLS],
    output psum_t deskew_data[COLS*COLS],
    output logic deskew_valid[COLS],
    output logic deskew_last[COLS],
    output id_t deskew_id[COLS]
);
  psum_t next_data[COLS*COLS];
  logic next_valid[COLS], next_last[COLS];
  id_t next_id[COLS];

  function automatic void move();
    for (int unsigned i = COLS; i < COLS * COLS; i++) next_data[i-COLS] = deskew_data[i];
    for (int unsigned i = COLS * (COLS - 1); i < COLS * COLS; i++) next_data[i] = '0;
    for (int unsigned j = 0; j + 1 < COLS; j++) begin
      next_valid[j] = deskew_valid[j+1];
      next_last[j] = deskew_last[j+1];
      next_id[j] = deskew_id[j+1];
    end
    next_valid[COLS-1] = 1'b0;
    next_last[COLS-1] = 1'b0;
    next_id[COLS-1] = '0;
    if (COLS > 1) begin
      for (int unsigned c = 0; c + 1 < COLS; c++) next_data[(COLS-2-c)*COLS+c] = out_dataflow[0] ? out_c[c] : out_b[c];
      next_valid[COLS-2] = out_valid[0];
      next_last[COLS-2] = out_last[0];
      next_id[COLS-2] = out_id[0];
    end
  endfunction

  always_ff @(posedge clk) begin
    move();
    deskew_data <= next_data;
    deskew_valid <= next_valid;
    deskew_last <= next_last;
    deskew_id <= next_id;
  end
endmodule
