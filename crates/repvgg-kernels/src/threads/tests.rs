use std::sync::atomic::{AtomicUsize, Ordering};

use super::ThreadPool;

#[test]
fn every_task_runs_once() {
    for threads in 0..5 {
        let pool = ThreadPool::new(threads);
        assert_eq!(pool.threads(), threads.max(1));
        for tasks in [0, 1, 2, 3, 100] {
            let counts: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            pool.run(tasks, &|task, worker| {
                assert!(worker < threads.max(1), "worker {worker} of {threads}");
                counts[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} threads, {tasks} tasks");
        }
    }
}

#[test]
fn many_short_runs_complete() {
    let pool = ThreadPool::new(3);
    let sum = AtomicUsize::new(0);
    for _ in 0..20_000 {
        pool.run(4, &|task, _| {
            sum.fetch_add(task, Ordering::Relaxed);
        });
    }
    assert_eq!(sum.into_inner(), 20_000 * 6);
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_survives() {
    for threads in [1, 3] {
        let pool = ThreadPool::new(threads);
        let run = || pool.run(10, &|task, _| assert!(task != 7, "task seven"));
        let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).expect_err("task 7 panics");
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"task seven"));
        let count = AtomicUsize::new(0);
        pool.run(10, &|_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 10);
    }
}

#[test]
fn callers_take_turns() {
    let pool = ThreadPool::new(2);
    let inside = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    pool.run(3, &|_, _| {
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 2, "at most two threads work at a time");
                        inside.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            });
        }
    });
}

#[test]
fn chunks_cover_the_slice() {
    let pool = ThreadPool::new(3);
    let mut data = vec![0.0; 23];
    pool.for_each_chunk(&mut data, 5, |index, chunk| chunk.fill(index as f32 + 1.0));
    let expected: Vec<f32> = (0..23).map(|i| (i / 5) as f32 + 1.0).collect();
    assert_eq!(data, expected);
}

#[test]
fn parts_lie_between_their_bounds() {
    let pool = ThreadPool::new(3);
    let mut data = vec![0; 20];
    pool.for_each_part(&mut data, &[1, 1, 4, 15], |index, part| part.fill(index + 1));
    let expected: Vec<usize> = [0; 1].into_iter().chain([2; 3]).chain([3; 11]).chain([0; 5]).collect();
    assert_eq!(data, expected);
    pool.for_each_part(&mut data, &[], |_, _| unreachable!("there is no part"));
    for bounds in [&[3, 2][..], &[0, 21]] {
        let call = || pool.for_each_part(&mut [0; 20], bounds, |_, _| ());
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err(), "{bounds:?}");
    }
}

#[test]
fn chunks_of_two_slices_are_visited_in_step() {
    let pool = ThreadPool::new(2);
    let (mut a, mut b) = ([0; 6], [0; 3]);
    let mut pairs: Vec<_> = a.chunks_mut(2).zip(b.iter_mut()).collect();
    pool.for_each_chunk(&mut pairs, 1, |index, pair| {
        let (a, b) = &mut pair[0];
        a.fill(index);
        **b = 10 * index;
    });
    assert_eq!((a, b), ([0, 0, 1, 1, 2, 2], [0, 10, 20]));
}

#[test]
fn empty_slices_have_no_chunks_and_no_results() {
    let pool = ThreadPool::new(2);
    pool.for_each_chunk(&mut [0; 0], 0, |_, _| unreachable!("there is no chunk"));
    assert!(pool.map(0, |index| index).is_empty());
    assert_eq!(pool.map(100, |index| index.to_string())[99], "99");
}

#[test]
fn scratch_is_private_to_a_worker() {
    let pool = ThreadPool::new(4);
    let mut scratch = vec![0.0; 4 * 64];
    pool.run_with_scratch(200, &mut scratch, |task, part| {
        assert_eq!(part.len(), 64);
        part.fill(task as f32);
        std::thread::yield_now();
        assert!(part.iter().all(|&value| value == task as f32), "another worker wrote here");
    });
}

#[test]
#[cfg(target_pointer_width = "64")]
fn too_many_tasks_panic_before_any_runs() {
    let pool = ThreadPool::new(2);
    let call = || pool.run(1 << 32, &|_, _| unreachable!("no task runs"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err());
    assert_eq!(pool.map(3, |index| index), [0, 1, 2], "the pool remains usable");
}
