// Products by tiles (AMX): of rounded numbers, or of float32 numbers in three parts.
//
// Tile registers cannot be named by a variable, so every shape of a product is written out.
#pragma once

#include "bf16.hpp"

#if defined(__AMX_BF16__)
namespace penstock::PENSTOCK_ISA {

// The tile registers of this thread, for as long as this lives.
class Tiles {
  public:
    Tiles() {
        Configuration c{};
        c.palette = 1;
        for (int t = 0; t < 8; ++t) c.columns[t] = 64, c.rows[t] = tile_edge;
        // GCC takes the instruction to read eight bytes, and would leave the others unwritten.
        asm volatile("" : : "r"(&c) : "memory");
        _tile_loadconfig(&c);
    }
    ~Tiles() { _tile_release(); }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;

  private:
    struct alignas(64) Configuration {
        std::uint8_t palette, start_row, reserved[14];
        std::uint16_t columns[16];
        std::uint8_t rows[16];
    };
};

// One tile of C: what its sums start from, and where they go. Rows of C that are evenly spaced the tile
// registers read and write themselves, others go through memory of the tile's own. Either way the sums are
// the same.
class TileOfC {
  public:
    // spacing: of the rows, in values; 0 where they are not even, or not sixteen.
    template <index Parts>
    TileOfC(const RoundedProduct<Parts>& p, index row, index rows, index panel, index spacing)
        : row_(row),
          rows_(min(rows - row, tile_edge)),
          column_(p.c_offset + (panel + panel / p.run * p.gap) * 16),
          spacing_(spacing) {
        static constexpr float zeros[16] = {};
        columns_ = panel < p.width ? min(p.columns - panel * 16, index(16)) : 0;
        adds_ = p.accumulate && p.sums_apart;
        if (p.c_is_far && p.accumulate) each_row(p, [](const float* c, index) { __builtin_prefetch(c, 1); });
        in_place_ = spacing && columns_ == 16 && !adds_;
        end = in_place_ ? p.c[row] + column_ : own_[0];
        end_stride = in_place_ ? spacing * index(sizeof(float)) : 64;
        if (!p.accumulate || adds_) {
            start = p.bias && columns_ > 0 ? p.bias + column_ - p.c_offset : zeros, start_stride = 0;
            return;
        }
        start = end, start_stride = end_stride;
        if (!in_place_)
            each_row(p, [&](const float* c, index i) { store(own_[i], load_partial(c, columns_)); });
    }

    template <index Parts> PENSTOCK_INLINE void finish(const RoundedProduct<Parts>& p) const {
        if (in_place_) return;
        if (adds_ && columns_ == 16)
            each_row(p, [&](float* c, index i) { store(c, load(c) + load(own_[i])); });
        else each_row(p, [&](float* c, index i) { write_edge<float>(c, load(own_[i]), columns_, adds_); });
    }

    const float* start;
    float* end;
    index start_stride, end_stride;  // in bytes

  private:
    template <index Parts, class F> PENSTOCK_INLINE void each_row(const RoundedProduct<Parts>& p, F f) const {
        if (columns_ <= 0) return;
        if (spacing_) {
            float* const first = p.c[row_] + column_;
#pragma GCC unroll 16
            for (index i = 0; i < tile_edge; ++i) f(first + i * spacing_, i);
        } else {
            for (index i = 0; i < rows_; ++i)
                if (p.c[row_ + i]) f(p.c[row_ + i] + column_, i);
        }
    }

    const index row_, rows_, column_, spacing_;
    index columns_;
    bool in_place_, adds_;
    alignas(64) float own_[16][16];
};

// From one to the next of sixteen rows of C, in values; 0 where that differs.
template <index Parts> index spacing(const RoundedProduct<Parts>& p, index row, index rows) {
    if (row + tile_edge > rows) return 0;
    float* const* c = p.c + row;
    for (index i = 0; i < tile_edge; ++i)
        if (!c[i] || (i > 1 && c[i] - c[i - 1] != c[1] - c[0])) return 0;
    return c[1] - c[0];
}

// Sums that no tile store interrupts for longer than this made the next one wait for hundreds of cycles.
constexpr index products_between_stores = 96;

// The parts of A and B that meet, in this order everywhere: each time one side changes. The products of all
// other pairs are too small to tell.
struct Pair { index a, b; };
constexpr Pair pairs_of_parts[] = {{0, 0}, {0, 1}, {1, 1}, {1, 0}, {2, 0}, {0, 2}};
template <index Parts> constexpr index products_of_parts = Parts * (Parts + 1) / 2;

// Brings in the B that comes next, a part with each of the `shares` that a product is computed in.
template <index Parts> class Fetch {
  public:
    Fetch(const RoundedProduct<Parts>& p, index share, index shares) {
        const index block = Parts * p.width * tile_edge,
                    blocks = p.factors[0].depth / depth_unit;  // in lines
        lines_ = p.b_after ? divide_up(block, shares * products_of_parts<Parts>) : 0;
        at_ = p.b_after + share * (block * blocks / shares) * depth_unit;
    }
    // Before the products of a pair of parts.
    PENSTOCK_INLINE void some() {
        for (index line = 0; line < lines_; ++line, at_ += depth_unit) __builtin_prefetch(at_, 0, 2);
    }

  private:
    index lines_;
    const bf16* at_;
};

// Tiles 0 to 3, the sums, with the products of tiles 4 and 5, of A, and tiles 6 and 7, of B.
PENSTOCK_INLINE void add_square() {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

// 32 rows, two panels: four tiles of sums.
template <index Parts> void multiply_square(const RoundedProduct<Parts>& p, index row, index rows,
                                            index panel, index upper, index lower, Fetch<Parts> fetch) {
    const TileOfC c[] = {{p, row, rows, panel, upper},
                         {p, row, rows, panel + 1, upper},
                         {p, row + tile_edge, rows, panel, lower},
                         {p, row + tile_edge, rows, panel + 1, lower}};
    alignas(64) float nowhere[16][16];
    constexpr index blocks_between_stores = products_between_stores / 4 / products_of_parts<Parts>;
    _tile_loadd(0, c[0].start, c[0].start_stride);
    _tile_loadd(1, c[1].start, c[1].start_stride);
    _tile_loadd(2, c[2].start, c[2].start_stride);
    _tile_loadd(3, c[3].start, c[3].start_stride);
    index block = 1;
    for (const Factors& f : p.factors) {
        const index second = row + tile_edge < rows ? tile_edge * f.a_stride : 0;
        const bf16 *a0 = f.a + row * f.a_stride, *a1 = a0 + second;
        const bf16 *b0 = f.b + panel * next_panel, *b1 = b0 + (panel + 1 < p.width ? next_panel : 0);
        const index a_stride = f.a_stride * 2, b_part = p.width * next_panel;
        for (index k = 0; k < f.depth; k += depth_unit, ++block) {
            _tile_loadd(4, a0, a_stride);
            _tile_loadd(6, b0, 64);
            _tile_loadd(7, b1, 64);
            _tile_loadd(5, a1, a_stride);
            add_square();
            if constexpr (Parts == 3) {  // as pairs_of_parts has them
                fetch.some();
                _tile_loadd(6, b0 + b_part, 64);
                _tile_loadd(7, b1 + b_part, 64);
                add_square();
                fetch.some();
                _tile_loadd(4, a0 + depth_unit, a_stride);
                _tile_loadd(5, a1 + depth_unit, a_stride);
                add_square();
                fetch.some();
                _tile_loadd(6, b0, 64);
                _tile_loadd(7, b1, 64);
                add_square();
                fetch.some();
                _tile_loadd(4, a0 + 2 * depth_unit, a_stride);
                _tile_loadd(5, a1 + 2 * depth_unit, a_stride);
                add_square();
                fetch.some();
                _tile_loadd(4, a0, a_stride);
                _tile_loadd(6, b0 + 2 * b_part, 64);
                _tile_loadd(7, b1 + 2 * b_part, 64);
                _tile_loadd(5, a1, a_stride);
                add_square();
            }
            fetch.some();
            if (block % blocks_between_stores == 0) _tile_stored(4, nowhere[0], 64);
            a0 += Parts * depth_unit, a1 += Parts * depth_unit, b0 += Parts * b_part, b1 += Parts * b_part;
        }
    }
    _tile_stored(0, c[0].end, c[0].end_stride);
    _tile_stored(1, c[1].end, c[1].end_stride);
    _tile_stored(2, c[2].end, c[2].end_stride);
    _tile_stored(3, c[3].end, c[3].end_stride);
    for (const TileOfC& tile : c) tile.finish(p);
}

// Tiles 0 to 3, the sums, with the products of tile 4, of A, and up to four panels of B.
PENSTOCK_INLINE void add_strip(const bf16* b, index width) {
    _tile_loadd(5, b, 64);
    _tile_dpbf16ps(0, 4, 5);
    if (width < 2) return;
    _tile_loadd(6, b + next_panel, 64);
    _tile_dpbf16ps(1, 4, 6);
    if (width < 3) return;
    _tile_loadd(7, b + 2 * next_panel, 64);
    _tile_dpbf16ps(2, 4, 7);
    if (width < 4) return;
    _tile_loadd(5, b + 3 * next_panel, 64);
    _tile_dpbf16ps(3, 4, 5);
}

// Up to 16 rows, up to four panels.
template <index Parts> void multiply_strip(const RoundedProduct<Parts>& p, index row, index rows, index panel,
                                           index width, Fetch<Parts> fetch) {
    const index even = spacing(p, row, rows);
    const auto nth = [&](index n) { return n < width ? panel + n : p.width; };  // beyond are none
    const TileOfC c[] = {{p, row, rows, nth(0), even},
                         {p, row, rows, nth(1), even},
                         {p, row, rows, nth(2), even},
                         {p, row, rows, nth(3), even}};
    alignas(64) float nowhere[16][16];
    constexpr index blocks_between_stores = products_between_stores / 4 / products_of_parts<Parts>;
    _tile_loadd(0, c[0].start, c[0].start_stride);
    _tile_loadd(1, c[1].start, c[1].start_stride);
    _tile_loadd(2, c[2].start, c[2].start_stride);
    _tile_loadd(3, c[3].start, c[3].start_stride);
    index block = 1;
    for (const Factors& f : p.factors) {
        const bf16 *a = f.a + row * f.a_stride, *b = f.b + panel * next_panel;
        const index a_stride = f.a_stride * 2, b_part = p.width * next_panel;
        for (index k = 0; k < f.depth; k += depth_unit, ++block) {
            for (index n = 0; n < products_of_parts<Parts>; ++n) {
                _tile_loadd(4, a + pairs_of_parts[n].a * depth_unit, a_stride);
                add_strip(b + pairs_of_parts[n].b * b_part, width);
                fetch.some();
            }
            if (block % blocks_between_stores == 0) _tile_stored(4, nowhere[0], 64);
            a += Parts * depth_unit, b += Parts * b_part;
        }
    }
    _tile_stored(0, c[0].end, c[0].end_stride);
    _tile_stored(1, c[1].end, c[1].end_stride);
    _tile_stored(2, c[2].end, c[2].end_stride);
    _tile_stored(3, c[3].end, c[3].end_stride);
    for (const TileOfC& tile : c) tile.finish(p);
}

template <index Parts> void multiply(const RoundedProduct<Parts>& p, index rows) {
    const index across = divide_up(p.width, 2), strip = p.width > 4 ? divide_up(p.width, 2) : p.width;
    const index squares = rows / (2 * tile_edge) + (rows % (2 * tile_edge) > tile_edge);
    const index shares = squares ? squares * across : divide_up(p.width, strip);
    index row = 0, done = 0;
    const auto fetch = [&] { return Fetch<Parts>(p, min(done++, shares - 1), shares); };
    for (; row + tile_edge < rows; row += 2 * tile_edge) {
        const index upper = spacing(p, row, rows), lower = spacing(p, row + tile_edge, rows);
        for (index panel = 0; panel < p.width; panel += 2)
            multiply_square(p, row, rows, panel, upper, lower, fetch());
    }
    for (index panel = 0; row < rows && panel < p.width; panel += strip)
        multiply_strip(p, row, rows, panel, min(strip, p.width - panel), fetch());
}

}  // namespace penstock::PENSTOCK_ISA
#endif
