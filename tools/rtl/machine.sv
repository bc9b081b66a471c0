// Numbers, types and arithmetic of the machine of docs/machine.md. The build passes the numbers as macros.
package machine;
  localparam int ROWS = `ROWS;
  localparam int COLS = `COLS;
  localparam int ACT_BITS = `ACT_BITS;
  localparam int WGT_BITS = `WGT_BITS;
  localparam int PSUM_BITS = `PSUM_BITS;
  localparam int BANK_BITS = `BANK_BITS;
  localparam int ACC_BITS = `ACC_BITS;
  localparam int ACC_ROWS = `ACC_ROWS;
  localparam int ACT_ROWS = `ACT_ROWS;
  localparam int WGT_ROWS = `WGT_ROWS;
  localparam bit SATURATE = `SATURATE;
  localparam bit FIXED_POINT = `FIXED_POINT;

  function automatic int address_bits(int rows);
    return rows <= 2 ? 1 : $clog2(rows);
  endfunction

  localparam int PES = ROWS * COLS;
  localparam int EDGE_BITS = ACT_BITS > WGT_BITS ? ACT_BITS : WGT_BITS;
  localparam int ROW_BITS = address_bits(ROWS);
  localparam int ACC_ADDRESS_BITS = address_bits(ACC_ROWS);
  localparam int ACT_ADDRESS_BITS = address_bits(ACT_ROWS);
  localparam int WGT_ADDRESS_BITS = address_bits(WGT_ROWS);
  localparam int ID_BITS = $clog2((ROWS + COLS + 1) / ROWS + 3 + 1);
  localparam int ENTRIES = 1 << ID_BITS;
  localparam int MASK_BITS = ACC_BITS / 8;
  localparam int REQUANT_STAGES = 8;
  localparam int FIELDS = 13;
  // A wrapping sum may be made modulo 2^32; a saturating one is made exactly.
  localparam int SUM_BITS = SATURATE ? 64 : 32;

  typedef logic signed [ACT_BITS-1:0] act_t;
  typedef logic signed [WGT_BITS-1:0] wgt_t;
  typedef logic signed [EDGE_BITS-1:0] edge_t;
  typedef logic signed [PSUM_BITS-1:0] psum_t;
  typedef logic signed [BANK_BITS-1:0] bank_t;
  typedef logic signed [ACC_BITS-1:0] acc_t;
  typedef logic signed [SUM_BITS-1:0] sum_t;
  typedef logic [4:0] shift_t;
  typedef logic [ID_BITS-1:0] id_t;
  typedef logic [ROW_BITS-1:0] row_t;
  typedef logic [ROW_BITS:0] kept_t;
  typedef logic [ACC_ADDRESS_BITS-1:0] acc_address_t;
  typedef logic [ACT_ADDRESS_BITS-1:0] act_address_t;
  typedef logic [WGT_ADDRESS_BITS-1:0] wgt_address_t;
  typedef logic [MASK_BITS-1:0] mask_t;

  localparam logic signed [63:0] PSUM_MAX = (64'sd1 <<< (PSUM_BITS - 1)) - 64'sd1;
  localparam logic signed [63:0] ACC_MAX = (64'sd1 <<< (ACC_BITS - 1)) - 64'sd1;

  // s_P( a * w + cin ), saturating where the array does.
  function automatic psum_t multiply_accumulate(act_t a, wgt_t w, psum_t cin);
    sum_t total;
    total = sum_t'(a) * sum_t'(w) + sum_t'(cin);
    if (SATURATE) begin
      if (total > sum_t'(PSUM_MAX)) total = sum_t'(PSUM_MAX);
      else if (total < sum_t'(-PSUM_MAX - 64'sd1)) total = sum_t'(-PSUM_MAX - 64'sd1);
    end
    return psum_t'(total);
  endfunction

  // s_Q( a + b ), saturating where the array does.
  function automatic acc_t accumulate(acc_t a, psum_t b);
    sum_t total;
    total = sum_t'(a) + sum_t'(b);
    if (SATURATE) begin
      if (total > sum_t'(ACC_MAX)) total = sum_t'(ACC_MAX);
      else if (total < sum_t'(-ACC_MAX - 64'sd1)) total = sum_t'(-ACC_MAX - 64'sd1);
    end
    return acc_t'(total);
  endfunction

  // clip_P( round_half_even( x / 2^by ) )
  function automatic psum_t shift_out(bank_t x, shift_t by);
    int value;
    logic [31:0] mask, half, rest;
    mask = (32'd1 << by) - 32'd1;
    half = (mask + 32'd1) >> 1;
    rest = 32'(int'(x)) & mask;
    value = int'(x) >>> by;
    value = value + int'(rest > half || (rest == half && value[0] && by != 5'd0));
    value = value > int'(PSUM_MAX) ? int'(PSUM_MAX) : value;
    value = value < int'(-PSUM_MAX - 64'sd1) ? int'(-PSUM_MAX - 64'sd1) : value;
    return psum_t'(value);
  endfunction

  // Fixed-point requantisation as gemmlowp does it.
  function automatic act_t requantise_fixed(int acc, int multiplier, shift_t by, int zero_point, int low, int high);
    longint product, y, mask, z;
    product = longint'(acc) * longint'(multiplier);
    y = (product + (product >= 0 ? 64'sh40000000 : 64'sd1 - 64'sh40000000)) / 64'sh80000000;
    if (acc == 32'sh80000000 && multiplier == 32'sh80000000) y = 64'sh7fffffff;
    mask = (64'sd1 <<< by) - 64'sd1;
    z = (y >>> by) + ((y & mask) > (mask >>> 1) + (y < 0 ? 64'sd1 : 64'sd0) ? 64'sd1 : 64'sd0);
    z = z + longint'(zero_point);
    z = z < longint'(low) ? longint'(low) : z;
    z = z > longint'(high) ? longint'(high) : z;
    return act_t'(z);
  endfunction

  // Host side: tables and memories outside the array, and what is observed. `host` is the harness's handle.
  import "DPI-C" function void host_request(input longint host, input int index, output longint fields[FIELDS]);
  import "DPI-C" function void host_stream(input longint host, input longint address, output int words[COLS]);
  import "DPI-C" function void host_bias(input longint host, input longint address, output int words[COLS]);
  import "DPI-C" function void host_block(input longint host, input int index, output longint fields[4]);
  import "DPI-C" function void host_scale(input longint host, input longint address, output int words[COLS],
                                          output int shifts[COLS]);
  import "DPI-C" function void host_output(input longint host, input int address, input int words[COLS]);
  import "DPI-C" function void observe_drain(input longint host, input int address, input int words[COLS]);
  import "DPI-C" function void observe_result(input longint host);
  // Strict IEEE float32: clip( rint( float32(acc) * scale ) + zero_point, low, high ), a whole row.
  import "DPI-C" function void requantise_float(input int acc[COLS], input int scale[COLS], input int zero_point,
                                                input int low, input int high, output int result[COLS]);
endpackage
