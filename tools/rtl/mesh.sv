// Section 2: the processing elements, PE(r, c) at r * COLS + c, and the output registers below them.
module mesh
  import machine::*;
(
    input logic clk,
    input act_t buf_a[ROWS],
    input edge_t buf_b[COLS],
    input edge_t buf_d[COLS],
    input logic buf_propagate,
    input logic buf_dataflow,
    input logic buf_valid,
    input logic buf_last,
    input shift_t buf_shift,
    input id_t buf_id,
    input act_t skew_a[ROWS*ROWS],
    input edge_t skew_b[COLS*COLS],
    input edge_t skew_d[COLS*COLS],
    input logic skew_valid[COLS*COLS],
    input logic skew_control_propagate[COLS*COLS],
    input logic skew_control_dataflow[COLS*COLS],
    input logic skew_control_last[COLS*COLS],
    input shift_t skew_control_shift[COLS*COLS],
    input id_t skew_control_id[COLS*COLS],
    output psum_t out_b[COLS],
    output psum_t out_c[COLS],
    output logic out_dataflow[COLS],
    output logic out_valid[COLS],
    output logic out_last[COLS],
    output id_t out_id[COLS]
);
  act_t pe_a[PES] /*verilator public_flat_rw*/;
  psum_t pe_b[PES] /*verilator public_flat_rw*/;  // row 0 holds EDGE_BITS, sign-extended
  psum_t pe_d[PES] /*verilator public_flat_rw*/;  // row 0 holds EDGE_BITS, sign-extended
  bank_t pe_c1[PES] /*verilator public_flat_rw*/;
  bank_t pe_c2[PES] /*verilator public_flat_rw*/;
  logic pe_propagate[PES] /*verilator public_flat_rw*/;
  logic pe_dataflow[PES] /*verilator public_flat_rw*/;
  logic pe_valid[PES] /*verilator public_flat_rw*/;
  logic pe_last_s[PES] /*verilator public_flat_rw*/;
  logic pe_last[PES] /*verilator public_flat_rw*/;
  shift_t pe_shift[PES] /*verilator public_flat_rw*/;
  id_t pe_id[PES] /*verilator public_flat_rw*/;

  // What leaves the PE of the same place towards the one below.
  psum_t down_b[PES], down_c[PES];

  act_t next_a[PES];
  psum_t next_b[PES], next_d[PES];
  bank_t next_c1[PES], next_c2[PES];
  logic next_propagate[PES], next_dataflow[PES], next_valid[PES], next_last_s[PES], next_last[PES];
  shift_t next_shift[PES];
  id_t next_id[PES];

  psum_t last_b[COLS], last_c[COLS];
  logic last_dataflow[COLS], last_valid[COLS], last_last[COLS];
  id_t last_id[COLS];

  // One clock of every PE: its banks and what it hands down.
  function automatic void compute();
    for (int unsigned i = 0; i < PES; i++) begin
      logic p, os, v, last_s;
      psum_t b, cin, mac, shifted;
      bank_t d, c1, c2, resting, moving, kept;
      wgt_t w;
      shift_t off;
      p = pe_propagate[i];
      os = pe_dataflow[i];
      v = pe_valid[i];
      last_s = pe_last_s[i];
      b = pe_b[i];
      d = bank_t'(pe_d[i]);
      c1 = pe_c1[i];
      c2 = pe_c2[i];
      resting = p ? c2 : c1;
      moving = p ? c1 : c2;
      w = os ? wgt_t'(b) : wgt_t'(resting);
      cin = os ? psum_t'(resting) : b;
      mac = multiply_accumulate(pe_a[i], w, cin);
      off = pe_shift[i] & {5{last_s ^ p}};
      shifted = shift_out(moving, off);
      kept = os ? bank_t'(mac) : resting;
      down_b[i] = os ? b : mac;
      down_c[i] = os ? shifted : psum_t'(moving);
      next_c1[i] = v ? (p ? d : kept) : c1;
      next_c2[i] = v ? (p ? kept : d) : c2;
      next_last_s[i] = v ? p : last_s;
    end
  endfunction

  // Operands and control move right and down; b, d and most of the control only where the PE above is valid.
  function automatic void move();
    for (int unsigned i = 1; i < PES; i++) next_a[i] = pe_a[i-1];
    for (int unsigned r = 0; r < ROWS; r++) next_a[r*COLS] = r == 0 ? buf_a[0] : skew_a[r];
    for (int unsigned i = COLS; i < PES; i++) begin
      next_b[i] = pe_valid[i-COLS] ? down_b[i-COLS] : pe_b[i];
      next_d[i] = pe_valid[i-COLS] ? down_c[i-COLS] : pe_d[i];
      next_propagate[i] = pe_valid[i-COLS] ? pe_propagate[i-COLS] : pe_propagate[i];
      next_dataflow[i] = pe_valid[i-COLS] ? pe_dataflow[i-COLS] : pe_dataflow[i];
      next_shift[i] = pe_valid[i-COLS] ? pe_shift[i-COLS] : pe_shift[i];
      next_valid[i] = pe_valid[i-COLS];
      next_last[i] = pe_last[i-COLS];
      next_id[i] = pe_id[i-COLS];
    end
  endfunction

  // The same from the edge, where column 0 has no skewing stage.
  function automatic void enter();
    for (int unsigned c = 0; c < COLS; c++) begin
      next_b[c] = skew_valid[c] ? psum_t'(skew_b[c]) : pe_b[c];
      next_d[c] = skew_valid[c] ? psum_t'(skew_d[c]) : pe_d[c];
      next_propagate[c] = skew_valid[c] ? skew_control_propagate[c] : pe_propagate[c];
      next_dataflow[c] = skew_valid[c] ? skew_control_dataflow[c] : pe_dataflow[c];
      next_shift[c] = skew_valid[c] ? skew_control_shift[c] : pe_shift[c];
      next_valid[c] = skew_valid[c];
      next_last[c] = skew_control_last[c];
      next_id[c] = skew_control_id[c];
    end
    next_b[0] = buf_valid ? psum_t'(buf_b[0]) : pe_b[0];
    next_d[0] = buf_valid ? psum_t'(buf_d[0]) : pe_d[0];
    next_propagate[0] = buf_valid ? buf_propagate : pe_propagate[0];
    next_dataflow[0] = buf_valid ? buf_dataflow : pe_dataflow[0];
    next_shift[0] = buf_valid ? buf_shift : pe_shift[0];
    next_valid[0] = buf_valid;
    next_last[0] = buf_last;
    next_id[0] = buf_id;
  endfunction

  // Out of the last row.
  function automatic void leave();
    for (int unsigned c = 0; c < COLS; c++) begin
      last_b[c] = down_b[PES-COLS+c];
      last_c[c] = down_c[PES-COLS+c];
      last_dataflow[c] = pe_dataflow[PES-COLS+c];
      last_valid[c] = pe_valid[PES-COLS+c];
      last_last[c] = pe_last[PES-COLS+c];
      last_id[c] = pe_id[PES-COLS+c];
    end
  endfunction

  always_ff @(posedge clk) begin
    compute();
    move();
    enter();
    leave();
    pe_a <= next_a;
    pe_b <= next_b;
    pe_d <= next_d;
    pe_c1 <= next_c1;
    pe_c2 <= next_c2;
    pe_propagate <= next_propagate;
    pe_dataflow <= next_dataflow;
    pe_valid <= next_valid;
    pe_last_s <= next_last_s;
    pe_last <= next_last;
    pe_shift <= next_shift;
    pe_id <= next_id;
    out_b <= last_b;
    out_c <= last_c;
    out_dataflow <= last_dataflow;
    out_valid <= last_valid;
    out_last <= last_last;
    out_id <= last_id;
  end
endmodule
