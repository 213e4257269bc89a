// A layer, forward and backward: one direction, or two side by side.
#pragma once

#include "forward.hpp"
#include "gradients.hpp"
#include "peak.hpp"

namespace penstock::PENSTOCK_ISA {

// Runs `share` for every direction: each with half of the threads where they can be halved.
template <class Plan, class Run> void run_directions(Plan* const* plans, int count, const Team& team,
                                                     Run run) {
    if (count == 2 && team.threads % 2 == 0) return run(*plans[team.which_half()], team.half());
    for (int i = 0; i < count; ++i) {
        run(*plans[i], team);
        team.wait();
    }
}

template <class C, class T, class Arguments> int threads_for(const Arguments& p, int count) {
    if (p.threads == 1) return 1;
    const Sizes<C, T> sizes{p.input, p.hidden, p.output};
    const index share = calls_are_close() ? share_of_work : worth_waking;
    const bool halves = count == 2 && sizes.work(p.layout.rows) > share;
    const int most = halves ? p.threads / 2 : p.threads;
    const int useful = useful_threads<C, T>(sizes, p.layout, p.weights.projection, most, share);
    return halves ? 2 * useful : useful;
}

// Plans every direction in the workspace and uses the plans; false where it is too small.
template <class Plan, class Arguments, class Use>
bool try_plans(Arena& arena, const Arguments* arguments, int count, Use use) {
    Plan first(arena, arguments[0]);
    if (count == 1) {
        Plan* const plans[] = {&first};
        if (arena.fits()) use(plans);
        return arena.fits();
    }
    Plan second(arena, arguments[1]);
    Plan* const plans[] = {&first, &second};
    if (arena.fits()) use(plans);
    return arena.fits();
}

template <class Plan, class Arguments, class Use>
void with_plans(const Arguments* directions, int count, int threads, Use use) {
    Arguments arguments[2] = {directions[0], directions[count - 1]};
    for (Arguments& a : arguments) a.threads = threads;
    const Workspace before = workspace(0);
    Arena arena(before.data, before.bytes);
    if (try_plans<Plan>(arena, arguments, count, use)) return;
    const Workspace grown = workspace(arena.used());
    Arena larger(grown.data, grown.bytes);
    try_plans<Plan>(larger, arguments, count, use);
}

// Both passes say whether no operand that they split was infinite: where one was, nothing that they wrote
// holds.
template <class C, class T, class M>
bool forward(const ForwardArguments<T, typename M::Matrix>* directions, int count) {
    const int threads = threads_for<C, T>(directions[0], count);
    bool finite = true;
    with_plans<ForwardPlan<C, T, M>>(directions, count, threads, [&](auto plans) {
        parallel(threads, [&](const Team& team) {
            run_directions(plans, count, team,
                           [](auto& plan, const Team& part) { forward_share(plan, part); });
        });
        for (int i = 0; i < count; ++i) finite = finite && !plans[i]->infinity.met();
    });
    return finite;
}

template <class C, class T, class M>
bool backward(const BackwardArguments<T, typename M::Matrix>* directions, int count) {
    const int threads = threads_for<C, T>(directions[0], count);
    bool finite = true;
    with_plans<BackwardPlan<C, T, M>>(directions, count, threads, [&](auto plans) {
        parallel(threads, [&](const Team& team) {
            run_directions(plans, count, team,
                           [](auto& plan, const Team& part) { backward_share(plan, part); });
            team.wait();
            for (int i = 0; i < count; ++i) add_input_gradient(*plans[i], team);
        });
        for (int i = 0; i < count; ++i) finite = finite && !plans[i]->infinity.met();
    });
    return finite;
}

template <class C, class T, class M = Exact<T>> constexpr Kernel<T, typename M::Matrix> kernel() {
    return {
        [](const auto* directions, int count) { forward<C, T, M>(directions, count); },
        [](const auto* directions, int count) { backward<C, T, M>(directions, count); },
        [](index rows, index hidden, index output) { return Sizes<C, T>{0, hidden, output}.reserve(rows); },
        gates_alone<C>,
        C::gates,
        C::has_cell_state};
}

}  // namespace penstock::PENSTOCK_ISA
