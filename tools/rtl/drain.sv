// Section 7: reads finished blocks and requantises their rows. A float build uses requant_scale, a fixed-point build
// requant_multiplier and requant_shift.
module drain
  import machine::*;
(
    input logic clk,
    input longint host,
    input logic scale_step,
    input logic requantised,
    input int blocks,
    input int zero_point,
    input int low,
    input int high,
    input logic [15:0] blocks_done,
    input acc_t accumulator[ACC_ROWS][COLS]
);
  logic [15:0] drain_block /*verilator public_flat_rw*/;
  acc_address_t drain_row /*verilator public_flat_rw*/;
  acc_t requant_acc[COLS] /*verilator public_flat_rw*/;
  logic [31:0] requant_scale[COLS] /*verilator public_flat_rw*/;
  logic signed [31:0] requant_multiplier[COLS] /*verilator public_flat_rw*/;
  shift_t requant_shift[COLS] /*verilator public_flat_rw*/;
  logic requant_valid[REQUANT_STAGES+1] /*verilator public_flat_rw*/;
  logic [23:0] requant_row[REQUANT_STAGES+1] /*verilator public_flat_rw*/;
  act_t requant_result[REQUANT_STAGES][COLS] /*verilator public_flat_rw*/;

  longint fields[4];  // base, rows, out_row, scale row
  logic drains;
  acc_address_t address;
  logic [23:0] row;
  acc_t drained[COLS];
  int words[COLS], scales[COLS], shifts[COLS];
  logic [31:0] scale[COLS];
  logic signed [31:0] multiplier[COLS];
  shift_t by[COLS];
  logic next_valid[REQUANT_STAGES+1];
  logic [23:0] next_row[REQUANT_STAGES+1];
  act_t next_result[REQUANT_STAGES][COLS];
  int accs[COLS], factors[COLS], results[COLS], outputs[COLS];

  always_ff @(posedge clk) begin
    // The rows behind: valid and row number follow the results.
    for (int unsigned j = 1; j <= REQUANT_STAGES; j++) begin
      next_valid[j] = requant_valid[j-1];
      next_row[j] = requant_row[j-1];
    end

    // A row leaves the accumulator memory.
    drains = drain_block < blocks_done && int'(drain_block) < blocks;
    next_valid[0] = drains && requantised;
    next_row[0] = requant_row[0];
    if (drains) begin
      host_block(host, int'(drain_block), fields);
      address = acc_address_t'(fields[0]) + drain_row;
      row = 24'(fields[2]) + 24'(drain_row);
      for (int unsigned c = 0; c < COLS; c++) drained[c] = '0;
      if (int'(address) < ACC_ROWS) drained = accumulator[address];
      for (int unsigned c = 0; c < COLS; c++) words[c] = int'(drained[c]);
      observe_drain(host, int'(row), words);
      host_scale(host, fields[3] + (scale_step ? longint'(drain_row) : 64'sd0), scales, shifts);
      for (int unsigned c = 0; c < COLS; c++) begin
        scale[c] = 32'(scales[c]);
        multiplier[c] = scales[c];
        by[c] = shift_t'(shifts[c]);
      end
      if (requantised) begin
        requant_acc <= drained;
        if (FIXED_POINT) begin
          requant_multiplier <= multiplier;
          requant_shift <= by;
        end else begin
          requant_scale <= scale;
        end
        next_row[0] = row;
      end
      if (longint'(drain_row) >= fields[1] - 64'sd1) begin
        drain_row <= '0;
        drain_block <= drain_block + 1'b1;
      end else begin
        drain_row <= drain_row + 1'b1;
      end
    end

    // The result pipeline, every cycle.
    for (int unsigned c = 0; c < COLS; c++) accs[c] = int'(requant_acc[c]);
    if (FIXED_POINT) begin
      for (int unsigned c = 0; c < COLS; c++)
        next_result[0][c] = requantise_fixed(accs[c], requant_multiplier[c], requant_shift[c], zero_point, low, high);
    end else begin
      for (int unsigned c = 0; c < COLS; c++) factors[c] = int'(requant_scale[c]);
      requantise_float(accs, factors, zero_point, low, high, results);
      for (int unsigned c = 0; c < COLS; c++) next_result[0][c] = act_t'(results[c]);
    end
    for (int unsigned j = 1; j < REQUANT_STAGES; j++)
      for (int unsigned c = 0; c < COLS; c++) next_result[j][c] = requant_result[j-1][c];
    if (requant_valid[REQUANT_STAGES]) begin
      for (int unsigned c = 0; c < COLS; c++) outputs[c] = int'(requant_result[REQUANT_STAGES-1][c]);
      host_output(host, int'(requant_row[REQUANT_STAGES]), outputs);
    end

    requant_valid <= next_valid;
    requant_row <= next_row;
    requant_result <= next_result;
  end
endmodule
