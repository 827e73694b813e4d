//! A run allocates nothing on any thread. This test has its own binary because the allocator counts for the whole process.

use std::alloc::System;

use repvgg::engine::{BatchShape, Engine, Session};
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
    let engine = Engine::with_threads(1 + WORKERS).unwrap();
    let mut session = engine.session(&graph, &weights, BatchShape { batch: 2, size: [64, 64] }).unwrap();
    let (images, mut logits) = (vec![0.5; 2 * 3 * 64 * 64], [0.0; 2 * 10]);
    session.run(&images, &mut logits).unwrap();
    let mut allocated = |session: &mut Session| {
        let region = Region::new(COUNTING);
        (0..5).for_each(|_| session.run(&images, &mut logits).unwrap());
        region.change()
    };
    let disturbed = (0..20).map(|_| allocated(&mut session)).filter(|change| *change != Stats::default()).count();
    // The system may start a worker late, which allocates: once per worker, or twice if a region ends during the start.
    assert!(disturbed <= 2 * WORKERS, "{disturbed} of 20 regions allocate");

    let region = Region::new(COUNTING);
    drop(std::hint::black_box(Box::new(logits)));
    assert_eq!(region.change().allocations, 1, "the allocator counts allocations");
}
