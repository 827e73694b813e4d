//! The packed weights that sessions of one prepared network share.

use std::sync::Arc;
use std::thread;

use repvgg::engine::{BatchShape, Options, Prepared, Reason, Session, Sharing, ThreadPool, thread_pool};
use repvgg::zoo::RepVgg;
use repvgg::{Graph, Model, Specification, Weights};

use super::{Case, open, positive_weights, random_images};

fn network() -> (Graph, Weights) {
    let spec = RepVgg { depths: [1, 2, 2, 1], width: [0.5, 0.25, 0.25, 0.125], classes: 10, ..RepVgg::default() };
    let graph = spec.training_graph().unwrap();
    let weights = positive_weights(&graph, 7);
    (graph, weights)
}

fn prepare(sharing: Sharing) -> Arc<Prepared> {
    let (graph, weights) = network();
    Arc::new(Prepared::new(&graph, &weights, Options { sharing, ..Options::default() }).unwrap())
}

const SIZE: [usize; 2] = [64, 48];

fn session(prepared: &Arc<Prepared>, pool: &Arc<ThreadPool>, batch: usize) -> Session {
    Session::new(prepared, pool, BatchShape { batch, size: SIZE }).unwrap()
}

#[test]
fn a_prepared_network_can_be_shared_between_threads() {
    fn assert_send_and_sync<T: Send + Sync>() {}
    fn assert_send<T: Send>() {}
    assert_send_and_sync::<Prepared>();
    assert_send::<Session>();
}

#[test]
fn sessions_of_one_shape_share_all_packed_weights() {
    let (prepared, pool) = (prepare(Sharing::PerShape), thread_pool(2).unwrap());
    assert!(prepared.packed_bytes() < 4096, "nothing is packed before a session needs it");
    let first = session(&prepared, &pool, 2);
    let packed = prepared.packed_bytes();
    assert!(packed >= first.packed_bytes());
    let second = session(&prepared, &thread_pool(1).unwrap(), 2);
    assert_eq!((prepared.packed_bytes(), second.packed_bytes()), (packed, first.packed_bytes()));
    drop(first);
    prepared.drop_unused();
    assert_eq!(prepared.packed_bytes(), packed, "the second session still uses them");
    drop(second);
    prepared.drop_unused();
    assert!(prepared.packed_bytes() < 4096);
}

#[test]
fn concurrent_sessions_are_bit_equal_to_one() {
    let case = Case { batch: 3, size: SIZE, threads: 1, ..Case::default() };
    let images = random_images(3, case);
    let (graph, weights) = network();
    let mut expected = vec![0.0f32; 3 * 10];
    open(&graph, &weights, case).unwrap().run(images.data(), &mut expected).unwrap();
    let prepared = prepare(Sharing::PerShape);
    // Both on one pool, then each on its own.
    let pool = thread_pool(2).unwrap();
    let pools = [[Arc::clone(&pool), pool], [thread_pool(1).unwrap(), thread_pool(2).unwrap()]];
    for pools in pools {
        thread::scope(|scope| {
            for pool in &pools {
                let (prepared, images, expected) = (&prepared, &images, &expected);
                scope.spawn(move || {
                    let mut session = session(prepared, pool, 3);
                    let mut logits = vec![0.0f32; 3 * 10];
                    for _ in 0..8 {
                        logits.fill(f32::NAN);
                        session.run(images.data(), &mut logits).unwrap();
                        assert!(logits.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits()));
                    }
                });
            }
        });
    }
}

#[test]
fn one_packing_serves_all_batches_up_to_a_limit() {
    let (prepared, pool) = (prepare(Sharing::UpTo(8)), thread_pool(1).unwrap());
    let largest = session(&prepared, &pool, 8);
    let packed = prepared.packed_bytes();
    let algorithms = |session: &Session| -> Vec<_> {
        session.layers().iter().filter_map(|layer| Some(layer.choice.as_ref()?.taken.algorithm)).collect()
    };
    let mut images = random_images(3, Case { batch: 8, size: SIZE, ..Case::default() });
    images.data_mut()[0] = 0.25;
    let mut expected = vec![0.0; 8 * 10];
    session(&prepared, &pool, 8).run(images.data(), &mut expected).unwrap();
    for batch in 1..=7 {
        let mut smaller = session(&prepared, &pool, batch);
        assert_eq!(algorithms(&smaller), algorithms(&largest));
        let mut logits = vec![0.0; batch * 10];
        smaller.run(&images.data()[..images.data().len() / 8 * batch], &mut logits).unwrap();
        assert_eq!(logits, expected[..batch * 10], "an image's logits do not depend on its batch");
    }
    assert_eq!(prepared.packed_bytes(), packed);
    let reasons: Vec<Reason> =
        session(&prepared, &pool, 1).layers().iter().filter_map(|layer| Some(layer.choice.as_ref()?.reason)).collect();
    assert!(reasons.iter().all(|reason| [Reason::Estimated, Reason::Shared].contains(reason)));
}

/// The packed bytes of sessions of batch 1 to 8 together, divided by those of the largest, for 224×224 pixels.
fn packed_ratio_of_eight_sessions(sharing: Sharing) -> f64 {
    let model = Model::initialise(Specification::named("repvgg-a0").unwrap(), 0).unwrap().fuse().unwrap();
    let options = Options { sharing, ..Options::default() };
    let prepared = Arc::new(Prepared::new(model.graph(), &model.weights, options).unwrap());
    let pool = thread_pool(2).unwrap();
    let open = |batch| Session::new(&prepared, &pool, BatchShape { batch, size: [224, 224] }).unwrap();
    let sessions: Vec<Session> = (1..=8).map(open).collect();
    prepared.packed_bytes() as f64 / sessions[7].packed_bytes() as f64
}

#[test]
fn eight_sessions_of_a0_hold_little_more_than_one() {
    let ratio = packed_ratio_of_eight_sessions(Sharing::UpTo(8));
    assert!(ratio <= 1.001, "{ratio:.3} times the packed bytes of one session");
}
