// Section 5: fires the rows of one request after the other and keeps the tag table. The harness sets the registers
// to request 0 before the first clock.
module sequencer
  import machine::*;
(
    input logic clk,
    input longint host,
    input int requests,
    output logic seq_active,
    output row_t seq_row,
    output logic [23:0] seq_pc,
    output logic in_prop,
    output id_t seq_id,
    output logic seq_dataflow,
    output shift_t seq_shift,
    output logic seq_act_on,
    output act_address_t seq_act_address,
    output logic seq_wgt_on,
    output wgt_address_t seq_wgt_address,
    output logic tag_result[ENTRIES],
    output logic tag_accumulate[ENTRIES],
    output logic tag_final[ENTRIES],
    output acc_address_t tag_base[ENTRIES],
    output kept_t tag_kept[ENTRIES],
    output logic [15:0] tag_bias[ENTRIES]
);
  longint fields[FIELDS];
  id_t next_id;

  always_ff @(posedge clk) begin
    if (seq_active) begin
      if (int'(seq_row) >= ROWS - 1) begin
        seq_row <= '0;
        if (int'(seq_pc) < requests) begin
          host_request(host, int'(seq_pc), fields);
          next_id = seq_id + 1'b1;
          seq_pc <= seq_pc + 1'b1;
          seq_id <= next_id;
          in_prop <= in_prop ^ fields[0][0];
          seq_dataflow <= fields[1][0];
          seq_shift <= fields[2][4:0];
          seq_act_on <= fields[3][0];
          seq_act_address <= fields[4][ACT_ADDRESS_BITS-1:0];
          seq_wgt_on <= fields[5][0];
          seq_wgt_address <= fields[6][WGT_ADDRESS_BITS-1:0];
          tag_result[next_id] <= fields[7][0];
          tag_base[next_id] <= fields[8][ACC_ADDRESS_BITS-1:0];
          tag_kept[next_id] <= fields[9][ROW_BITS:0];
          tag_accumulate[next_id] <= fields[10][0];
          tag_final[next_id] <= fields[11][0];
          tag_bias[next_id] <= fields[12][15:0];
        end else begin
          seq_active <= 1'b0;
        end
      end else begin
        seq_row <= seq_row + 1'b1;
      end
    end
  end
endmodule
