// The test bench around the Verilated array: host memories, upsets, runs, and checkpointed single-upset campaigns.
// See README.md for the interface and docs/machine.md for what is being run.
#include "Varray.h"
#include "Varray___024root.h"
#include "verilated.h"

#include <algorithm>
#include <chrono>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

namespace {

constexpr int R = ROWS, C = COLS, FIELDS = 13;
constexpr int EDGE_BITS = ACT_BITS > WGT_BITS ? ACT_BITS : WGT_BITS;
constexpr int bits_of(int n) { return n == 0 ? 0 : 1 + bits_of(n / 2); }
constexpr int address_bits(int rows) { return rows <= 2 ? 1 : bits_of(rows - 1); }
constexpr int ID_BITS = bits_of((R + C + 1) / R + 3);
constexpr int ROW_BITS = address_bits(R);
constexpr int AB = address_bits(ACC_ROWS);

static_assert(R >= 1 && C >= 1 && ACT_BITS >= 2 && WGT_BITS >= 2, "sizes");
static_assert(ACT_BITS <= 16 && WGT_BITS <= 16, "operands have at most 16 bits");
static_assert(EDGE_BITS <= PSUM_BITS && PSUM_BITS <= 32 && BANK_BITS >= 2 && BANK_BITS <= 32, "widths");
static_assert(ACC_BITS % 8 == 0 && ACC_BITS >= 8 && ACC_BITS <= 32, "accumulators have 8, 16, 24 or 32 bits");

enum Error { OK = 0, BAD_REGISTER = 1, BAD_PLACE = 2, BAD_MASK = 3, BAD_KIND = 4, BAD_PROGRAM = 5, NOT_LOADED = 6 };
enum Kind { FLIP = 0, STUCK_AT_0 = 1, STUCK_AT_1 = 2 };
enum Memory { ACCUMULATOR = 0, ACT_BUFFER = 1, WGT_BUFFER = 2, OBSERVED = 3, OUTPUT = 4, MEMORIES = 5 };

// Where an array of registers lies and which places of it exist.
enum Shape {
    GRID,        // every (row, col)
    SKEW,        // col < row: `stage` of line `row`, stored [col][row]
    DESKEW,      // col < COLS - 1 - row: stage of column `row`, stored [col][row]
};

struct Register {
    const char* name;
    uint8_t* data;
    int bytes;  // of one element
    int width;
    bool is_signed;
    int rows, cols;
    Shape shape;
    int first_row;     // what `row` 0 is called
    int memory;        // Memory, or -1 for a register
    bool edge_row;     // row 0 is EDGE_BITS wide, stored sign-extended
    bool inert;        // nothing reads it
};

}  // namespace

extern "C" {

struct RtlUpset {
    int32_t reg, row, col, kind;
    uint64_t mask;
    int64_t first, last;
};

struct RtlProgram {
    const int64_t* requests;  // (requests, 13)
    const int64_t* loads;     // (loads, 4)
    const int16_t* act_source;
    const int16_t* wgt_source;
    const int32_t* stream;
    const int32_t* bias;
    const uint32_t* scale;  // float32 bits, or multipliers
    const uint32_t* shift;
    const int64_t* blocks;  // (blocks, 4)
    int64_t n_requests, n_loads, n_act, n_wgt, n_stream, n_bias, n_scale, n_blocks, out_rows, cycles;
    int32_t os, bias_tiled, scale_step, requantised, zero_point, low, high, initial;
};

struct RtlResult {
    int64_t last_result, completion;
    int32_t complete, reserved;
};

struct RtlOutcome {
    int64_t accumulators, outputs;     // words that differ from the golden run
    int64_t last_result, completion, stopped;
    int32_t complete, reserved;
};
}

namespace {

// The machine with its host side. `Machine` is the DPI handle of its model.
class Machine {
  public:
    Machine() : model_(std::make_unique<Varray>(&context_)) {
        model_->clk = 0;
        model_->eval();
        bind();
    }

    const std::vector<Register>& registers() const { return registers_; }

    int load(const RtlProgram& p);
    int check(const RtlUpset& u) const;
    int run(const RtlUpset* upsets, int64_t n, int64_t until);
    int campaign(int64_t interval, const RtlUpset* upsets, int64_t n, RtlOutcome* outcomes);
    double time(int64_t cycles);
    uint64_t read(const Register& reg, int row, int col) const;
    void result(int32_t* observed, int32_t* output, int32_t* accumulator, RtlResult* result) const;
    bool loaded() const { return loaded_; }

    // Host side, called by the model.
    void host_request(int index, long long* fields) const { copy(requests_, FIELDS, index, fields); }
    void host_stream(long long row, int* words) const { copy(stream_, C, row, words); }
    void host_bias(long long row, int* words) const { copy(bias_, C, row, words); }
    void host_block(int index, long long* fields) const { copy(blocks_, 4, index, fields); }
    void host_scale(long long row, int* words, int* shifts) const {
        copy(scale_, C, row, words);
        copy(shift_, C, row, shifts);
    }
    void write(Memory memory, int row, const int* words) {
        if (row >= out_rows_) return;
        int32_t* to = reinterpret_cast<int32_t*>(memories_[memory].data) + static_cast<size_t>(row) * C;
        memcpy(to, words, C * sizeof(int32_t));
        written(memory, row);
    }
    void observe_result() { last_result_ = cycle_; }

  private:
    // A memory of the run: the content in the model or on the host, and what a campaign knows about it.
    struct Content {
        uint8_t* data;
        size_t row_bytes;
        int64_t rows;
        int words;                               // of a row
        std::vector<uint8_t> image, now;         // golden, at the snapshot and at the current cycle
        std::vector<uint32_t> epoch;             // of the fault that touched the row last
        std::vector<std::vector<int64_t>> events;  // golden: cycle * 2 + (1 if a write), in order
    };
    struct Write {
        int64_t cycle, row;
        int memory;
        size_t data;  // offset in journal_data_
    };
    struct Load {
        int64_t cycle;
        int memory;
        int64_t row, source;
    };
    struct Span {
        uint8_t* data;
        size_t bytes, at;
    };

    template <typename T, typename U>
    static void copy(const std::vector<T>& from, int words, long long row, U* to) {
        if (row < 0 || static_cast<size_t>(row) >= from.size() / words) {
            std::fill(to, to + words, U{0});
            return;
        }
        const T* source = from.data() + static_cast<size_t>(row) * words;
        for (int i = 0; i < words; i++) to[i] = static_cast<U>(source[i]);
    }

    void bind();
    void reset();
    void do_load(const Load& load);
    bool complete() const;
    void apply(const RtlUpset& upset);
    void step();
    void written(int memory, int64_t row);
    void touch(int memory, int64_t row);
    int64_t note_accesses();
    uint8_t* row_of(int memory, int64_t row) { return memories_[memory].data + row * memories_[memory].row_bytes; }

    void record_golden(int64_t interval);
    void save(uint8_t* to) const;
    void restore(const uint8_t* from);
    bool registers_equal(const uint8_t* other) const;
    void replay(size_t& position, int64_t until, bool image);
    bool converged(int64_t t, RtlOutcome& outcome);
    void judge_end(RtlOutcome& outcome);
    void run_fault(const RtlUpset& upset, RtlOutcome& outcome);
    int next_event(int memory, int64_t row, int64_t cycle) const;
    int64_t words_differing(int memory, int64_t row) const;

    VerilatedContext context_;
    std::unique_ptr<Varray> model_;
    std::vector<Register> registers_;
    Content memories_[MEMORIES];
    std::vector<Span> spans_;
    size_t state_bytes_ = 0;

    bool loaded_ = false;
    std::vector<int64_t> requests_, blocks_;
    std::vector<int32_t> stream_, bias_;
    std::vector<uint32_t> scale_, shift_;
    std::vector<int16_t> act_source_, wgt_source_;
    std::vector<Load> loads_;
    std::vector<int32_t> observed_, output_;
    int64_t out_rows_ = 0, cycles_ = 0;
    int32_t initial_ = 0;
    int n_blocks_ = 0;

    int64_t cycle_ = 0, last_result_ = -1;
    bool complete_ = false;
    size_t next_load_ = 0;

    // Campaign.
    enum Mode { PLAIN, GOLDEN, FAULTY } mode_ = PLAIN;
    int64_t interval_ = 0, golden_end_ = 0, golden_last_ = -1;
    bool golden_complete_ = false;
    std::vector<uint8_t> snapshots_;
    std::vector<int64_t> snapshot_last_result_;
    std::vector<Write> journal_;
    std::vector<uint8_t> journal_data_;
    size_t image_position_ = 0, now_position_ = 0;
    uint32_t epoch_ = 0;
    std::vector<std::pair<int, int64_t>> touched_;
};

constexpr uint64_t ones(int width) { return width >= 64 ? ~0ULL : (1ULL << width) - 1; }

uint64_t sign_extend(uint64_t value, int width) {
    return (value & (1ULL << (width - 1))) ? value | ~ones(width) : value & ones(width);
}

uint64_t load_element(const uint8_t* at, int bytes) {
    uint64_t value = 0;
    memcpy(&value, at, bytes);
    return value;
}

size_t element(const Register& reg, int row, int col) {
    size_t index = reg.shape == GRID ? static_cast<size_t>(row - reg.first_row) * reg.cols + col
                                     : static_cast<size_t>(col) * reg.rows + row;
    return index * reg.bytes;
}

bool exists(const Register& reg, int row, int col) {
    if (row < reg.first_row || row >= reg.first_row + reg.rows || col < 0 || col >= reg.cols) return false;
    if (reg.shape == SKEW) return col < row;
    if (reg.shape == DESKEW) return col < C - 1 - row;
    return true;
}

// Bytes of one element of a scalar or of an array of any rank.
template <typename T>
constexpr int element_bytes(const T& variable) {
    if constexpr (std::is_integral_v<T>) return static_cast<int>(sizeof(T));
    else return element_bytes(variable[0]);
}

int width_at(const Register& reg, int row) { return reg.edge_row && row == 0 ? EDGE_BITS : reg.width; }

void Machine::bind() {
    auto* root = model_->rootp;
    auto add = [&](const char* name, auto& variable, int bytes, int width, bool is_signed, int rows, int cols,
                   Shape shape = GRID, int first_row = 0, int memory = -1) {
        registers_.push_back(Register{name, reinterpret_cast<uint8_t*>(&variable), bytes, width, is_signed, rows, cols,
                                      shape, first_row, memory, false, false});
    };
#define AT(path) root->array__DOT__##path, element_bytes(root->array__DOT__##path)
#define MESH(name, width, is_signed) add("pe_" #name, AT(mesh__DOT__pe_##name), width, is_signed, R, C)
#define OUT(name, width, is_signed) add("out_" #name, AT(out_##name), width, is_signed, 1, C, GRID, R)
#define ONE(name, path, width) add(name, AT(path), width, false, 1, 1)
#define LINE(name, width, is_signed) add(#name, AT(name), width, is_signed, C, C, SKEW)
#define TAG(name, width) add(#name, AT(name), width, false, 1 << ID_BITS, 1)
    MESH(a, ACT_BITS, true);
    MESH(b, PSUM_BITS, true);
    registers_.back().edge_row = true;
    MESH(d, PSUM_BITS, true);
    registers_.back().edge_row = true;
    MESH(c1, BANK_BITS, true);
    MESH(c2, BANK_BITS, true);
    MESH(propagate, 1, false);
    MESH(dataflow, 1, false);
    MESH(valid, 1, false);
    MESH(last_s, 1, false);
    MESH(last, 1, false);
    MESH(shift, 5, false);
    MESH(id, ID_BITS, false);
    OUT(b, PSUM_BITS, true);
    OUT(c, PSUM_BITS, true);
    OUT(dataflow, 1, false);
    OUT(valid, 1, false);
    OUT(last, 1, false);
    OUT(id, ID_BITS, false);
    add("buf_a", AT(buf_a), ACT_BITS, true, R, 1);
    add("buf_b", AT(buf_b), EDGE_BITS, true, C, 1);
    add("buf_d", AT(buf_d), EDGE_BITS, true, C, 1);
    ONE("buf_propagate", buf_propagate, 1);
    ONE("buf_dataflow", buf_dataflow, 1);
    ONE("buf_valid", buf_valid, 1);
    ONE("buf_last", buf_last, 1);
    ONE("buf_shift", buf_shift, 5);
    ONE("late_shift", operands__DOT__late_shift, 5);
    ONE("buf_id", buf_id, ID_BITS);
    add("skew_a", AT(skew_a), ACT_BITS, true, R, R, SKEW);
    LINE(skew_b, EDGE_BITS, true);
    LINE(skew_d, EDGE_BITS, true);
    LINE(skew_valid, 1, false);
    LINE(skew_control_propagate, 1, false);
    LINE(skew_control_dataflow, 1, false);
    LINE(skew_control_last, 1, false);
    LINE(skew_control_shift, 5, false);
    LINE(skew_control_id, ID_BITS, false);
    add("deskew_data", AT(deskew_data), PSUM_BITS, true, C, C, DESKEW);
    add("deskew_valid", AT(deskew_valid), 1, false, 1, C, DESKEW);
    add("deskew_id", AT(deskew_id), ID_BITS, false, 1, C, DESKEW);
    add("deskew_last", AT(deskew_last), 1, false, 1, C, DESKEW);
    ONE("seq_active", seq_active, 1);
    ONE("seq_row", seq_row, ROW_BITS);
    ONE("seq_pc", seq_pc, 24);
    ONE("in_prop", in_prop, 1);
    ONE("seq_id", seq_id, ID_BITS);
    ONE("seq_dataflow", seq_dataflow, 1);
    ONE("seq_shift", seq_shift, 5);
    ONE("seq_act_on", seq_act_on, 1);
    ONE("seq_act_address", seq_act_address, address_bits(ACT_ROWS));
    ONE("seq_wgt_on", seq_wgt_on, 1);
    ONE("seq_wgt_address", seq_wgt_address, address_bits(WGT_ROWS));
    TAG(tag_result, 1);
    TAG(tag_accumulate, 1);
    TAG(tag_final, 1);
    TAG(tag_base, AB);
    TAG(tag_kept, ROW_BITS + 1);
    TAG(tag_bias, 16);
    ONE("result_count", accumulator_unit__DOT__result_count, ROW_BITS);
    add("write_valid", AT(accumulator_unit__DOT__write_valid), 1, false, 2, 1);
    add("write_address", AT(accumulator_unit__DOT__write_address), AB, false, 2, 1);
    ONE("write_accumulate", accumulator_unit__DOT__write_accumulate, 1);
    add("write_mask", AT(accumulator_unit__DOT__write_mask), ACC_BITS / 8, false, 2, C);
    add("write_data", AT(accumulator_unit__DOT__write_data), PSUM_BITS, true, 1, C);
    add("write_bias", AT(accumulator_unit__DOT__write_bias), ACC_BITS, true, 1, C);
    add("write_sum", AT(accumulator_unit__DOT__write_sum), ACC_BITS, true, 1, C);
    add("write_final", AT(accumulator_unit__DOT__write_final), 1, false, 2, 1);
    ONE("blocks_done", blocks_done, 16);
    ONE("drain_block", drain__DOT__drain_block, 16);
    ONE("drain_row", drain__DOT__drain_row, AB);
    add("requant_acc", AT(drain__DOT__requant_acc), ACC_BITS, true, 1, C);
    if (FIXED_POINT) {
        add("requant_multiplier", AT(drain__DOT__requant_multiplier), 32, true, 1, C);
        add("requant_shift", AT(drain__DOT__requant_shift), 5, false, 1, C);
    } else {
        add("requant_scale", AT(drain__DOT__requant_scale), 32, false, 1, C);
    }
    add("requant_valid", AT(drain__DOT__requant_valid), 1, false, 9, 1);
    add("requant_row", AT(drain__DOT__requant_row), 24, false, 9, 1);
    add("requant_result", AT(drain__DOT__requant_result), ACT_BITS, true, 8, C);
    add("transposer", AT(operands__DOT__transposer), ACT_BITS, true, R, R);
    registers_.back().inert = true;
    add("transposer_control", AT(operands__DOT__transposer_control), 1, false, 1, 5);
    registers_.back().inert = true;
    auto memory = [&](const char* name, auto& variable, int bytes, int width, int rows, int cols, Memory id) {
        add(name, variable, bytes, width, true, rows, cols, GRID, 0, id);
        Content& content = memories_[id];
        content.data = reinterpret_cast<uint8_t*>(&variable);
        content.row_bytes = static_cast<size_t>(bytes) * cols;
        content.rows = rows;
        content.words = cols;
    };
    memory("accumulator", AT(accumulator), ACC_BITS, ACC_ROWS, C, ACCUMULATOR);
    memory("act_buffer", AT(operands__DOT__act_buffer), ACT_BITS, ACT_ROWS, R, ACT_BUFFER);
    memory("wgt_buffer", AT(operands__DOT__wgt_buffer), WGT_BITS, WGT_ROWS, C, WGT_BUFFER);
#undef AT
#undef MESH
#undef OUT
#undef ONE
#undef LINE
#undef TAG
    // The state of the array but its memories, as few stretches of the model as possible.
    std::vector<Span> spans;
    for (const Register& reg : registers_)
        if (reg.memory < 0 && !reg.inert)
            spans.push_back({reg.data, static_cast<size_t>(reg.bytes) * reg.rows * reg.cols, 0});
    std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.data < b.data; });
    for (const Span& span : spans) {
        if (!spans_.empty() && span.data <= spans_.back().data + spans_.back().bytes)
            spans_.back().bytes = span.data + span.bytes - spans_.back().data;
        else
            spans_.push_back(span);
    }
    for (Span& span : spans_) {
        span.at = state_bytes_;
        state_bytes_ += span.bytes;
    }
}

int Machine::load(const RtlProgram& p) {
    const bool sizes = p.n_requests > 0 && p.n_loads >= 0 && p.n_act >= 0 && p.n_wgt >= 0 && p.n_stream >= 0 &&
                       p.n_bias >= 0 && p.n_scale >= 0 && p.n_blocks >= 0 && p.out_rows >= 0 && p.cycles >= 0;
    if (!sizes || p.n_requests > INT_MAX || p.n_blocks > INT_MAX || p.out_rows > (1 << 24)) return BAD_PROGRAM;
    std::vector<Load> loads(p.n_loads);
    for (int64_t i = 0; i < p.n_loads; i++) {
        const int64_t* l = p.loads + 4 * i;
        const bool wgt = l[1] == 1;
        if (l[1] != 0 && l[1] != 1) return BAD_PROGRAM;
        if (l[2] < 0 || l[2] >= (wgt ? WGT_ROWS : ACT_ROWS)) return BAD_PROGRAM;
        if (l[3] < 0 || l[3] >= (wgt ? p.n_wgt : p.n_act)) return BAD_PROGRAM;
        loads[i] = {l[0], wgt ? WGT_BUFFER : ACT_BUFFER, l[2], l[3]};
    }
    std::stable_sort(loads.begin(), loads.end(), [](const Load& a, const Load& b) { return a.cycle < b.cycle; });
    loads_ = std::move(loads);
    requests_.assign(p.requests, p.requests + p.n_requests * FIELDS);
    blocks_.assign(p.blocks, p.blocks + p.n_blocks * 4);
    stream_.assign(p.stream, p.stream + p.n_stream * C);
    bias_.assign(p.bias, p.bias + p.n_bias * C);
    scale_.assign(p.scale, p.scale + p.n_scale * C);
    shift_.clear();
    if (FIXED_POINT) shift_.assign(p.shift, p.shift + p.n_scale * C);
    act_source_.assign(p.act_source, p.act_source + p.n_act * R);
    wgt_source_.assign(p.wgt_source, p.wgt_source + p.n_wgt * C);
    out_rows_ = p.out_rows;
    cycles_ = p.cycles;
    initial_ = p.initial;
    n_blocks_ = static_cast<int>(p.n_blocks);
    observed_.assign(out_rows_ * C, 0);
    output_.assign(out_rows_ * C, 0);
    std::vector<int32_t>* host[2] = {&observed_, &output_};
    for (int i = 0; i < 2; i++) {
        Content& content = memories_[OBSERVED + i];
        content.data = reinterpret_cast<uint8_t*>(host[i]->data());
        content.row_bytes = C * sizeof(int32_t);
        content.rows = out_rows_;
        content.words = C;
    }
    model_->host = reinterpret_cast<uintptr_t>(this);
    model_->os = p.os != 0;
    model_->bias_tiled = p.bias_tiled != 0;
    model_->scale_step = p.scale_step != 0;
    model_->requantised = p.requantised != 0;
    model_->requests = static_cast<int>(p.n_requests);
    model_->blocks = n_blocks_;
    model_->zero_point = p.zero_point;
    model_->low = p.low;
    model_->high = p.high;
    loaded_ = true;
    return OK;
}

// Section 5, "at start"; everything else is 0.
void Machine::reset() {
    for (const Register& reg : registers_) memset(reg.data, 0, static_cast<size_t>(reg.bytes) * reg.rows * reg.cols);
    std::fill(observed_.begin(), observed_.end(), 0);
    std::fill(output_.begin(), output_.end(), 0);
    auto* root = model_->rootp;
    auto* accumulator = &root->array__DOT__accumulator[0][0];
    std::fill(accumulator, accumulator + static_cast<size_t>(ACC_ROWS) * C, initial_ & ones(ACC_BITS));
    const int64_t* f = requests_.data();
    root->array__DOT__seq_active = 1;
    root->array__DOT__seq_pc = 1;
    root->array__DOT__in_prop = f[0] & 1;
    root->array__DOT__seq_dataflow = f[1] & 1;
    root->array__DOT__seq_shift = f[2] & 31;
    root->array__DOT__seq_act_on = f[3] & 1;
    root->array__DOT__seq_act_address = f[4] & ones(address_bits(ACT_ROWS));
    root->array__DOT__seq_wgt_on = f[5] & 1;
    root->array__DOT__seq_wgt_address = f[6] & ones(address_bits(WGT_ROWS));
    root->array__DOT__tag_result[0] = f[7] & 1;
    root->array__DOT__tag_base[0] = f[8] & ones(AB);
    root->array__DOT__tag_kept[0] = f[9] & ones(ROW_BITS + 1);
    root->array__DOT__tag_accumulate[0] = f[10] & 1;
    root->array__DOT__tag_final[0] = f[11] & 1;
    root->array__DOT__tag_bias[0] = f[12] & 0xffff;
    cycle_ = 0;
    last_result_ = -1;
    complete_ = false;
    next_load_ = 0;
    while (next_load_ < loads_.size() && loads_[next_load_].cycle < 0) do_load(loads_[next_load_++]);
}

void Machine::do_load(const Load& load) {
    auto* root = model_->rootp;
    if (load.memory == ACT_BUFFER) {
        const int16_t* from = act_source_.data() + load.source * R;
        for (int i = 0; i < R; i++)
            root->array__DOT__operands__DOT__act_buffer[load.row][i] = from[i] & ones(ACT_BITS);
    } else {
        const int16_t* from = wgt_source_.data() + load.source * C;
        for (int i = 0; i < C; i++)
            root->array__DOT__operands__DOT__wgt_buffer[load.row][i] = from[i] & ones(WGT_BITS);
    }
    written(load.memory, load.row);
}

bool Machine::complete() const {
    const auto* root = model_->rootp;
    if (n_blocks_ == 0 || root->array__DOT__drain__DOT__drain_block < n_blocks_) return false;
    for (int i = 0; model_->requantised && i < 9; i++)
        if (root->array__DOT__drain__DOT__requant_valid[i]) return false;
    return true;
}

int Machine::check(const RtlUpset& u) const {
    if (u.reg < 0 || static_cast<size_t>(u.reg) >= registers_.size()) return BAD_REGISTER;
    const Register& reg = registers_[u.reg];
    if (!exists(reg, u.row, u.col)) return BAD_PLACE;
    if (u.mask & ~ones(width_at(reg, u.row))) return BAD_MASK;
    return u.kind < FLIP || u.kind > STUCK_AT_1 ? BAD_KIND : OK;
}

uint64_t Machine::read(const Register& reg, int row, int col) const {
    const uint64_t value = load_element(reg.data + element(reg, row, col), reg.bytes);
    return reg.is_signed ? sign_extend(value, width_at(reg, row)) : value;
}

void Machine::apply(const RtlUpset& upset) {
    const bool due = upset.kind == FLIP ? cycle_ == upset.first : cycle_ >= upset.first && cycle_ <= upset.last;
    if (!due) return;
    const Register& reg = registers_[upset.reg];
    uint8_t* at = reg.data + element(reg, upset.row, upset.col);
    uint64_t value = load_element(at, reg.bytes);
    if (upset.kind == FLIP) value ^= upset.mask;
    else if (upset.kind == STUCK_AT_0) value &= ~upset.mask;
    else value |= upset.mask;
    if (reg.edge_row && upset.row == 0) value = sign_extend(value, EDGE_BITS) & ones(reg.width);
    memcpy(at, &value, reg.bytes);
    if (reg.memory >= 0) touch(reg.memory, upset.row);
}

// One clock. What the model needs of the host it asks for itself.
inline void Machine::step() {
    int64_t row = -1;
    if (mode_ != PLAIN) row = note_accesses();
    model_->clk = 1;
    model_->eval();
    model_->clk = 0;
    model_->eval();
    if (row >= 0) written(ACCUMULATOR, row);
    while (next_load_ < loads_.size() && loads_[next_load_].cycle <= cycle_) do_load(loads_[next_load_++]);
    cycle_++;
}

// Before an edge: the accumulator row it will write, or -1; in the golden run also what the machine reads.
int64_t Machine::note_accesses() {
    const auto* root = model_->rootp;
    const auto& valid = root->array__DOT__accumulator_unit__DOT__write_valid;
    const auto& address = root->array__DOT__accumulator_unit__DOT__write_address;
    if (mode_ == GOLDEN) {
        auto reads = [&](Memory memory, int64_t row) {
            if (row < memories_[memory].rows) memories_[memory].events[row].push_back(2 * cycle_);
        };
        const int row = root->array__DOT__seq_row;
        if (root->array__DOT__seq_active && root->array__DOT__seq_act_on)
            reads(ACT_BUFFER, (root->array__DOT__seq_act_address + row) & ones(address_bits(ACT_ROWS)));
        if (root->array__DOT__seq_active && root->array__DOT__seq_wgt_on)
            reads(WGT_BUFFER, (root->array__DOT__seq_wgt_address + row) & ones(address_bits(WGT_ROWS)));
        if (valid[0] && root->array__DOT__accumulator_unit__DOT__write_accumulate) reads(ACCUMULATOR, address[0]);
        const int block = root->array__DOT__drain__DOT__drain_block;
        if (block < root->array__DOT__blocks_done && block < n_blocks_)
            reads(ACCUMULATOR, (blocks_[4 * block] + root->array__DOT__drain__DOT__drain_row) & ones(AB));
    }
    return valid[1] && address[1] < ACC_ROWS ? address[1] : -1;
}

void Machine::written(int memory, int64_t row) {
    if (mode_ == FAULTY) touch(memory, row);
    if (mode_ != GOLDEN) return;
    journal_.push_back({cycle_, row, memory, journal_data_.size()});
    const uint8_t* data = row_of(memory, row);
    journal_data_.insert(journal_data_.end(), data, data + memories_[memory].row_bytes);
    memories_[memory].events[row].push_back(2 * cycle_ + 1);
}

void Machine::touch(int memory, int64_t row) {
    if (mode_ != FAULTY || memories_[memory].epoch[row] == epoch_) return;
    memories_[memory].epoch[row] = epoch_;
    touched_.emplace_back(memory, row);
}

int Machine::run(const RtlUpset* upsets, int64_t n, int64_t until) {
    for (int64_t i = 0; i < n; i++)
        if (const int error = check(upsets[i])) return error;
    mode_ = PLAIN;
    reset();
    while (n_blocks_ > 0 || cycle_ < cycles_) {
        for (int64_t i = 0; i < n; i++) apply(upsets[i]);
        complete_ = complete();
        if (complete_ || cycle_ >= until) return OK;
        step();
    }
    complete_ = true;
    return OK;
}

void Machine::result(int32_t* observed, int32_t* output, int32_t* accumulator, RtlResult* result) const {
    std::copy(observed_.begin(), observed_.end(), observed);
    std::copy(output_.begin(), output_.end(), output);
    const auto* from = &model_->rootp->array__DOT__accumulator[0][0];
    for (size_t i = 0; i < static_cast<size_t>(ACC_ROWS) * C; i++)
        accumulator[i] = static_cast<int32_t>(sign_extend(from[i], ACC_BITS));
    *result = {last_result_, complete_ ? cycle_ : -1, complete_, 0};
}

double Machine::time(int64_t cycles) {
    mode_ = PLAIN;
    const auto start = std::chrono::steady_clock::now();
    for (int64_t done = 0; done < cycles;) {
        reset();
        while (done < cycles && !complete() && cycle_ < cycles_) {
            step();
            done++;
        }
        if (cycle_ == 0) break;
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void Machine::save(uint8_t* to) const {
    for (const Span& span : spans_) memcpy(to + span.at, span.data, span.bytes);
}

void Machine::restore(const uint8_t* from) {
    for (const Span& span : spans_) memcpy(span.data, from + span.at, span.bytes);
}

bool Machine::registers_equal(const uint8_t* other) const {
    for (const Span& span : spans_)
        if (memcmp(span.data, other + span.at, span.bytes) != 0) return false;
    return true;
}

// The fault-free run: a snapshot of all registers every `interval` cycles, every memory write, every memory access.
void Machine::record_golden(int64_t interval) {
    mode_ = PLAIN;
    reset();
    for (Content& content : memories_) {
        content.image.assign(content.data, content.data + content.row_bytes * content.rows);
        content.now = content.image;
        content.epoch.assign(content.rows, 0);
        content.events.assign(content.rows, {});
    }
    epoch_ = 0;
    interval_ = interval;
    snapshots_.clear();
    snapshot_last_result_.clear();
    journal_.clear();
    journal_data_.clear();
    mode_ = GOLDEN;
    while (true) {
        if (cycle_ % interval_ == 0) {
            snapshots_.resize(snapshots_.size() + state_bytes_);
            save(snapshots_.data() + snapshots_.size() - state_bytes_);
            snapshot_last_result_.push_back(last_result_);
        }
        golden_complete_ = complete();
        if (golden_complete_ || cycle_ >= cycles_) break;
        step();
    }
    golden_complete_ = golden_complete_ || n_blocks_ == 0;
    golden_end_ = cycle_;
    golden_last_ = last_result_;
    for (Content& content : memories_) memcpy(content.data, content.image.data(), content.image.size());
    image_position_ = 0;
}

// Golden writes of the cycles before `until`: into the images and the model, or into `now` only.
void Machine::replay(size_t& position, int64_t until, bool image) {
    for (; position < journal_.size() && journal_[position].cycle < until; position++) {
        const Write& write = journal_[position];
        Content& content = memories_[write.memory];
        const size_t at = write.row * content.row_bytes;
        const uint8_t* data = journal_data_.data() + write.data;
        memcpy(content.now.data() + at, data, content.row_bytes);
        if (image) {
            memcpy(content.image.data() + at, data, content.row_bytes);
            memcpy(content.data + at, data, content.row_bytes);
        } else {
            touch(write.memory, write.row);
        }
    }
}

// What the golden run does next with a row: 0 nothing, 1 it reads it, 2 it writes it.
int Machine::next_event(int memory, int64_t row, int64_t cycle) const {
    const auto& events = memories_[memory].events[row];
    const auto at = std::lower_bound(events.begin(), events.end(), 2 * cycle);
    return at == events.end() ? 0 : 1 + static_cast<int>(*at & 1);
}

int64_t Machine::words_differing(int memory, int64_t row) const {
    const Content& content = memories_[memory];
    const size_t bytes = content.row_bytes / content.words;
    const uint8_t* a = content.data + row * content.row_bytes;
    const uint8_t* b = content.now.data() + row * content.row_bytes;
    int64_t count = 0;
    for (int i = 0; i < content.words; i++) count += memcmp(a + i * bytes, b + i * bytes, bytes) != 0;
    return count;
}

// All registers are the golden ones of the start of cycle t. The rest of the run is golden if no memory row that
// differs will be read before it is written.
bool Machine::converged(int64_t t, RtlOutcome& outcome) {
    replay(now_position_, t, false);
    outcome.accumulators = outcome.outputs = 0;
    for (const auto& [memory, row] : touched_) {
        const int64_t words = words_differing(memory, row);
        if (words == 0) continue;
        const int next = next_event(memory, row, t);
        if (next == 1) return false;
        if (next == 2) continue;
        if (memory == (n_blocks_ > 0 ? OBSERVED : ACCUMULATOR)) outcome.accumulators += words;
        if (memory == OUTPUT) outcome.outputs += words;
    }
    outcome.last_result = golden_last_ >= t ? golden_last_ : last_result_;
    outcome.complete = golden_complete_;
    outcome.completion = golden_complete_ ? golden_end_ : -1;
    return true;
}

void Machine::judge_end(RtlOutcome& outcome) {
    replay(now_position_, LLONG_MAX, false);
    outcome.accumulators = outcome.outputs = 0;
    for (const auto& [memory, row] : touched_) {
        if (memory == (n_blocks_ > 0 ? OBSERVED : ACCUMULATOR)) outcome.accumulators += words_differing(memory, row);
        if (memory == OUTPUT) outcome.outputs += words_differing(memory, row);
    }
    outcome.last_result = last_result_;
    outcome.complete = complete_;
    outcome.completion = complete_ ? cycle_ : -1;
}

// One upset, from the snapshot the memories stand at.
void Machine::run_fault(const RtlUpset& upset, RtlOutcome& outcome) {
    const int64_t over = upset.kind == FLIP ? upset.first : upset.last;
    const int64_t snapshots = snapshot_last_result_.size();
    epoch_++;
    touched_.clear();
    now_position_ = image_position_;
    complete_ = false;
    bool stopped = false;
    while (true) {
        if (n_blocks_ == 0 && cycle_ >= cycles_) {
            complete_ = true;
            break;
        }
        if (cycle_ > over && cycle_ % interval_ == 0 && cycle_ / interval_ < snapshots &&
            registers_equal(snapshots_.data() + cycle_ / interval_ * state_bytes_) && converged(cycle_, outcome)) {
            stopped = true;
            break;
        }
        apply(upset);
        complete_ = complete();
        if (complete_ || cycle_ >= cycles_) break;
        step();
    }
    if (!stopped) judge_end(outcome);
    outcome.stopped = cycle_;
    for (const auto& [memory, row] : touched_) {
        Content& content = memories_[memory];
        const size_t at = row * content.row_bytes;
        memcpy(content.data + at, content.image.data() + at, content.row_bytes);
        memcpy(content.now.data() + at, content.image.data() + at, content.row_bytes);
    }
}

int Machine::campaign(int64_t interval, const RtlUpset* upsets, int64_t n, RtlOutcome* outcomes) {
    if (interval < 1) return BAD_PROGRAM;
    for (int64_t i = 0; i < n; i++)
        if (const int error = check(upsets[i])) return error;
    record_golden(interval);
    mode_ = FAULTY;
    const int64_t snapshots = snapshot_last_result_.size();
    auto snapshot = [&](int64_t i) {
        return std::min(std::max<int64_t>(upsets[i].first, 0) / interval_, snapshots - 1);
    };
    std::vector<int64_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return snapshot(a) < snapshot(b); });
    for (const int64_t i : order) {
        const int64_t index = snapshot(i), start = index * interval_;
        replay(image_position_, start, true);
        restore(snapshots_.data() + index * state_bytes_);
        cycle_ = start;
        last_result_ = snapshot_last_result_[index];
        const Load first{start, 0, 0, 0};
        next_load_ = std::lower_bound(loads_.begin(), loads_.end(), first,
                                      [](const Load& a, const Load& b) { return a.cycle < b.cycle; }) -
                     loads_.begin();
        outcomes[i] = {};
        run_fault(upsets[i], outcomes[i]);
    }
    mode_ = PLAIN;
    return OK;
}

Machine* machine(void* handle) { return static_cast<Machine*>(handle); }
Machine* machine(long long host) { return reinterpret_cast<Machine*>(static_cast<uintptr_t>(host)); }

}  // namespace

// What the SystemVerilog imports.
extern "C" {

void host_request(long long host, int index, long long* fields) { machine(host)->host_request(index, fields); }
void host_stream(long long host, long long address, int* words) { machine(host)->host_stream(address, words); }
void host_bias(long long host, long long address, int* words) { machine(host)->host_bias(address, words); }
void host_block(long long host, int index, long long* fields) { machine(host)->host_block(index, fields); }
void host_scale(long long host, long long address, int* words, int* shifts) {
    machine(host)->host_scale(address, words, shifts);
}
void host_output(long long host, int address, const int* words) { machine(host)->write(OUTPUT, address, words); }
void observe_drain(long long host, int address, const int* words) { machine(host)->write(OBSERVED, address, words); }
void observe_result(long long host) { machine(host)->observe_result(); }

void requantise_float(const int* acc, const int* scale, int zero_point, int low, int high, int* result) {
    float factors[C];
    memcpy(factors, scale, sizeof(factors));
    const float least = static_cast<float>(low - zero_point), most = static_cast<float>(high - zero_point);
    for (int c = 0; c < C; c++) {
        float value = std::rint(static_cast<float>(acc[c]) * factors[c]);
        value = value >= least ? value : least;  // a NaN too
        value = value <= most ? value : most;
        result[c] = static_cast<int>(value) + zero_point;
    }
}

// The interface.
void* rtl_create() { return new Machine; }
void rtl_destroy(void* handle) { delete machine(handle); }
int rtl_registers(void* handle) { return static_cast<int>(machine(handle)->registers().size()); }

const char* rtl_name(void* handle, int reg) {
    return reg < 0 || reg >= rtl_registers(handle) ? "" : machine(handle)->registers()[reg].name;
}

int rtl_register(void* handle, const char* name) {
    for (int i = 0; i < rtl_registers(handle); i++)
        if (strcmp(rtl_name(handle, i), name) == 0) return i;
    return -1;
}

int rtl_width(void* handle, int reg, int row, int col) {
    if (reg < 0 || reg >= rtl_registers(handle)) return 0;
    const Register& found = machine(handle)->registers()[reg];
    return exists(found, row, col) ? width_at(found, row) : 0;
}

int rtl_load(void* handle, const RtlProgram* program) { return machine(handle)->load(*program); }

int rtl_run(void* handle, const RtlUpset* upsets, int64_t n, int64_t until) {
    return machine(handle)->loaded() ? machine(handle)->run(upsets, n, until) : NOT_LOADED;
}

void rtl_result(void* handle, int32_t* observed, int32_t* output, int32_t* accumulator, RtlResult* result) {
    machine(handle)->result(observed, output, accumulator, result);
}

// A register as it is now, sign-extended where it is signed.
int rtl_read(void* handle, int reg, int row, int col, int64_t* value) {
    if (rtl_width(handle, reg, row, col) == 0) return BAD_PLACE;
    *value = static_cast<int64_t>(machine(handle)->read(machine(handle)->registers()[reg], row, col));
    return OK;
}

// The first row's name, rows and columns; not every place of a skewing line exists.
void rtl_places(void* handle, int reg, int32_t* shape) {
    const Register& found = machine(handle)->registers()[reg];
    shape[0] = found.first_row;
    shape[1] = found.rows;
    shape[2] = found.cols;
}

int rtl_campaign(void* handle, int64_t interval, const RtlUpset* upsets, int64_t n, RtlOutcome* outcomes) {
    return machine(handle)->loaded() ? machine(handle)->campaign(interval, upsets, n, outcomes) : NOT_LOADED;
}

double rtl_time(void* handle, int64_t cycles) {
    return machine(handle)->loaded() ? machine(handle)->time(cycles) : -1.0;
}
}
