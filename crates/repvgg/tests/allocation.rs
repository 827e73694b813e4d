//! A run allocates nothing, on any thread. Alone in its binary, because the allocator counts for the whole process.

use std::alloc::System;

use repvgg::engine::{Plan, Settings};
use repvgg::graph::Role;
use repvgg::zoo::{RepVgg, SqueezeExcite};
use repvgg::{Tensor, Weights};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Threads besides the caller's.
const WORKERS: usize = 2;

#[test]
fn a_run_allocates_nothing() {
    let spec = RepVgg { se: SqueezeExcite::BeforeRelu, width: [0.25; 4], classes: 10, ..RepVgg::default() };
    let graph = spec.training_graph().unwrap();
    let value = |role: Role| if role == Role::RunningVar { 1.0 } else { 0.01 };
    let weights: Weights = graph
        .parameters()
        .map(|(name, parameter)| (name, Tensor::full(parameter.shape, value(parameter.role))))
        .collect();
    let mut plan =
        Plan::new(&graph, &weights, Settings { batch: 2, size: [64, 64], threads: 1 + WORKERS, ..Settings::default() })
            .unwrap();
    let (images, mut logits) = (vec![0.5; 2 * 3 * 64 * 64], [0.0; 2 * 10]);
    plan.run(&images, &mut logits);
    let mut allocated = |plan: &mut Plan| {
        let region = Region::new(COUNTING);
        (0..5).for_each(|_| plan.run(&images, &mut logits));
        region.change()
    };
    let disturbed = (0..20).map(|_| allocated(&mut plan)).filter(|change| *change != Stats::default()).count();
    // The system may start a worker late, and its start then shows; once for each, or twice where a region ends within.
    assert!(disturbed <= 2 * WORKERS, "{disturbed} of 20 regions allocate");

    let region = Region::new(COUNTING);
    drop(std::hint::black_box(Box::new(logits)));
    assert_eq!(region.change().allocations, 1, "the counter counts");
}
