// Section 3: the skewing lines, stored at stage * LINES + line; line i has i stages, stage 0 is the one nearest the array.
// Places with stage >= line are no registers and stay 0.
module skew_line #(
    parameter type T = logic,
    parameter int LINES = 1
) (
    input logic clk,
    input T from[LINES],
    output T stage[LINES*LINES]
);
  T next[LINES*LINES];

  function automatic void move();
    for (int unsigned i = LINES; i < LINES * LINES; i++) next[i-LINES] = stage[i];
    for (int unsigned i = LINES * (LINES - 1); i < LINES * LINES; i++) next[i] = '0;
    for (int unsigned i = 1; i < LINES; i++) next[(i-1)*LINES+i] = from[i];
  endfunction

  always_ff @(posedge clk) begin
    move();
    stage <= next;
  end
endmodule

// The same for a control field, which enters every line at once.
module skew_control #(
    parameter type T = logic,
    parameter int LINES = 1
) (
    input logic clk,
    input T from,
    output T stage[LINES*LINES]
);
  T next[LINES*LINES];

  function automatic void move();
    for (int unsigned i = LINES; i < LINES * LINES; i++) next[i-LINES] = stage[i];
    for (int unsigned i = LINES * (LINES - 1); i < LINES * LINES; i++) next[i] = '0;
    for (int unsigned i = 1; i < LINES; i++) next[(i-1)*LINES+i] = from;
  endfunction

  always_ff @(posedge clk) begin
    move();
    stage <= next;
  end
endmodule
