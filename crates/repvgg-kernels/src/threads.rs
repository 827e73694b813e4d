//! Persistent worker threads, shared by inference and training, and safe ways to divide data among them.
//!
//! A run publishes one job; every thread claims task numbers until none is left. A worker that wakes up too late finds the
//! job closed and is not waited for, so a neighbour that steals a core costs one task, not one run. Workers spin briefly
//! before they park: the gap between two layers of a network is shorter than a wake-up.

#![expect(
    unsafe_code,
    reason = "a job borrows from the caller's stack and its workers write disjoint parts of a slice"
)]

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Rounds of waiting with a pause instruction (a few microseconds), then with a yield, before a thread parks.
const SPINS: usize = 2000;
const YIELDS: usize = 50;

/// Threads that share out numbered tasks. The calling thread works too, as worker 0.
///
/// # Example
///
/// ```
/// use repvgg_kernels::ThreadPool;
///
/// let pool = ThreadPool::new(2);
/// let mut data = [1, 2, 3, 4, 5];
/// pool.for_each_chunk(&mut data, 2, |index, chunk| chunk.iter_mut().for_each(|x| *x *= 10 * (index + 1)));
/// assert_eq!(data, [10, 20, 60, 80, 150]);
/// assert_eq!(pool.map(3, |index| index * index), [0, 1, 4]);
/// ```
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the one `run` in progress.
    turn: Mutex<()>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when a job opens and at shutdown.
    opened: Condvar,
    /// Signalled when the last worker leaves a job.
    left: Condvar,
    /// The number of jobs opened so far; read without the lock by spinning workers.
    generation: AtomicUsize,
    /// Workers inside the open job; written under the lock.
    inside: AtomicUsize,
    /// The unclaimed tasks of the open job.
    tasks: Tasks,
}

/// Numbered tasks that threads claim, half of the threads from the front and half from the back. From run to run, a thread
/// thus gets about the same part and finds in its own cache what it wrote there. (A line that another core wrote takes some
/// 80 ns to read or to write: with two threads, layers of 28×28 took 0.24 ms instead of 0.14.)
pub(crate) struct Tasks(AtomicU64);

impl Tasks {
    /// The tasks `0..count`.
    pub(crate) fn new(count: usize) -> Self {
        Self(AtomicU64::new(count as u64))
    }

    /// Makes them `0..count` again.
    fn reset(&self, count: usize) {
        assert!(u32::try_from(count).is_ok(), "{count} tasks");
        self.0.store(count as u64, Ordering::Relaxed);
    }

    /// An unclaimed task for a worker, if there is one.
    pub(crate) fn claim(&self, worker: usize) -> Option<usize> {
        // The first unclaimed task in the upper half, the end of the unclaimed ones in the lower half.
        let claimed = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tasks| {
            let (first, end) = (tasks >> 32, tasks & u64::from(u32::MAX));
            (first < end).then(|| if worker.is_multiple_of(2) { tasks + (1 << 32) } else { tasks - 1 })
        });
        let tasks = claimed.ok()?;
        let task = if worker.is_multiple_of(2) { tasks >> 32 } else { (tasks & u64::from(u32::MAX)) - 1 };
        Some(task as usize)
    }

    /// Whether none is unclaimed.
    pub(crate) fn is_empty(&self) -> bool {
        let tasks = self.0.load(Ordering::Relaxed);
        tasks >> 32 >= tasks & u64::from(u32::MAX)
    }
}

struct State {
    job: Option<Job>,
    panic: Option<Box<dyn Any + Send>>,
    shutdown: bool,
}

/// The body of a run. Its true lifetime is that of the `run` call which opened it.
#[derive(Clone, Copy)]
struct Job {
    body: &'static (dyn Fn(usize, usize) + Sync),
    tasks: usize,
}

impl ThreadPool {
    /// A pool of `threads` threads, the caller's included; 0 counts as 1.
    ///
    /// # Panics
    ///
    /// If the system refuses a thread.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { job: None, panic: None, shutdown: false }),
            opened: Condvar::new(),
            left: Condvar::new(),
            generation: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            tasks: Tasks::new(0),
        });
        let spawn = |worker| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("kernels-{worker}"));
            builder.spawn(move || shared.serve(worker)).expect("the system grants a thread")
        };
        let workers = (1..threads).map(spawn).collect();
        Self { shared, workers, turn: Mutex::new(()) }
    }

    /// Threads that work on a run.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body(task, worker)` once for every task in `0..tasks`, and returns when all calls have returned. At any time,
    /// each `worker` in `0..threads` is inside at most one call. Runs of several callers take turns. Allocates nothing.
    ///
    /// A task must not start a run of the same pool: it would wait for itself.
    ///
    /// # Panics
    ///
    /// With the payload of the first task that panicked; tasks that nobody has claimed by then are skipped. The pool stays
    /// usable.
    pub fn run(&self, tasks: usize, body: &(dyn Fn(usize, usize) + Sync)) {
        let _turn = lock(&self.turn);
        if self.workers.is_empty() || tasks <= 1 {
            return (0..tasks).for_each(|task| body(task, 0));
        }
        // SAFETY: only the lifetime changes; `close` below returns after the last use by any worker, on every path.
        let body = unsafe {
            std::mem::transmute::<&(dyn Fn(usize, usize) + Sync), &'static (dyn Fn(usize, usize) + Sync)>(body)
        };
        let job = Job { body, tasks };
        self.shared.open(job);
        self.shared.work(job, 0);
        if let Some(payload) = self.shared.close() {
            resume_unwind(payload);
        }
    }

    /// [`ThreadPool::run`] with an equal part of `scratch` for each worker: `body(task, part)`.
    ///
    /// # Panics
    ///
    /// As [`ThreadPool::run`].
    pub fn run_with_scratch<U: Send>(&self, tasks: usize, scratch: &mut [U], body: impl Fn(usize, &mut [U]) + Sync) {
        let part = scratch.len() / self.threads();
        let scratch = Disjoint::new(scratch);
        self.run(tasks, &|task, worker| {
            // SAFETY: a worker is inside one call at a time, and parts of different workers do not overlap.
            let part = unsafe { scratch.slice(worker * part, part) };
            body(task, part);
        });
    }

    /// Calls `body(index, chunk)` for every chunk of `len` elements of `data`; the last one may be shorter. Allocates
    /// nothing.
    ///
    /// Chunks of several slices in step are elements of a slice of tuples: `&mut [(&mut [f32], &mut [f32])]` with `len` 1.
    ///
    /// # Panics
    ///
    /// If `len` is zero and `data` is not empty, and as [`ThreadPool::run`].
    pub fn for_each_chunk<T: Send>(&self, data: &mut [T], len: usize, body: impl Fn(usize, &mut [T]) + Sync) {
        self.for_each_chunk_with_scratch::<T, ()>(data, len, &mut [], |index, chunk, _| body(index, chunk));
    }

    /// [`ThreadPool::for_each_chunk`] with an equal part of `scratch` for each worker: `body(index, chunk, part)`.
    ///
    /// # Panics
    ///
    /// As [`ThreadPool::for_each_chunk`].
    pub fn for_each_chunk_with_scratch<T: Send, U: Send>(
        &self,
        data: &mut [T],
        len: usize,
        scratch: &mut [U],
        body: impl Fn(usize, &mut [T], &mut [U]) + Sync,
    ) {
        if data.is_empty() {
            return;
        }
        let total = data.len();
        let data = Disjoint::new(data);
        self.run_with_scratch(total.div_ceil(len), scratch, |index, part| {
            let start = index * len;
            // SAFETY: every task is claimed once, and chunks of different tasks do not overlap.
            let chunk = unsafe { data.slice(start, len.min(total - start)) };
            body(index, chunk, part);
        });
    }

    /// Calls `body(index, part)` for the parts of `data` between neighbouring `bounds`.
    ///
    /// # Panics
    ///
    /// If the bounds descend or leave `data`, and as [`ThreadPool::run`].
    pub fn for_each_part<T: Send>(&self, data: &mut [T], bounds: &[usize], body: impl Fn(usize, &mut [T]) + Sync) {
        assert!(bounds.is_sorted(), "bounds ascend");
        let data = Disjoint::new(data);
        self.run(bounds.len().saturating_sub(1), &|index, _| {
            // SAFETY: every task is claimed once, and parts between ascending bounds do not overlap.
            let part = unsafe { data.slice(bounds[index], bounds[index + 1] - bounds[index]) };
            body(index, part);
        });
    }

    /// The results of `body(index)` for every index in `0..count`.
    ///
    /// # Panics
    ///
    /// As [`ThreadPool::run`].
    pub fn map<R: Send>(&self, count: usize, body: impl Fn(usize) -> R + Sync) -> Vec<R> {
        let mut results: Vec<Option<R>> = std::iter::repeat_with(|| None).take(count).collect();
        self.for_each_chunk(&mut results, 1, |index, result| result[0] = Some(body(index)));
        results.into_iter().map(|result| result.expect("every task ran")).collect()
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.shutdown = true;
        self.shared.generation.fetch_add(1, Ordering::Release);
        drop(state);
        self.shared.opened.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so it has none of its own to report.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn open(&self, job: Job) {
        let mut state = lock(&self.state);
        state.job = Some(job);
        self.tasks.reset(job.tasks);
        self.generation.fetch_add(1, Ordering::Release);
        drop(state);
        self.opened.notify_all();
    }

    /// Claims and runs tasks until none is left.
    fn work(&self, job: Job, worker: usize) {
        while let Some(task) = self.tasks.claim(worker) {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| (job.body)(task, worker))) {
                self.tasks.reset(0);
                lock(&self.state).panic.get_or_insert(payload);
            }
        }
    }

    /// Admits no further worker, waits for those inside, and hands out the panic of a task, if any.
    fn close(&self) -> Option<Box<dyn Any + Send>> {
        lock(&self.state).job = None;
        wait_briefly(|| self.inside.load(Ordering::Acquire) == 0);
        let mut state = lock(&self.state);
        while self.inside.load(Ordering::Acquire) > 0 {
            state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.panic.take()
    }

    /// The life of a worker.
    fn serve(&self, worker: usize) {
        let mut seen = 0;
        loop {
            wait_briefly(|| self.generation.load(Ordering::Acquire) != seen);
            let mut state = lock(&self.state);
            while self.generation.load(Ordering::Acquire) == seen {
                state = self.opened.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            seen = self.generation.load(Ordering::Acquire);
            if state.shutdown {
                return;
            }
            let Some(job) = state.job else { continue };
            self.inside.fetch_add(1, Ordering::Relaxed);
            drop(state);
            self.work(job, worker);
            let state = lock(&self.state);
            if self.inside.fetch_sub(1, Ordering::Release) == 1 {
                self.left.notify_one();
            }
            drop(state);
        }
    }
}

/// Waits for `condition`, but not for long; the caller checks it again under the lock.
fn wait_briefly(condition: impl Fn() -> bool) {
    for round in 0..SPINS + YIELDS {
        if condition() {
            return;
        }
        if round < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

/// A panic cannot break an invariant of these locks, so poison is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slice whose parts are written by several tasks at once.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Disjoint<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Disjoint<'_, T> {}

// SAFETY: it is a `&mut [T]` whose exclusive use is split up by the contract of `slice`.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above; sharing the pointer itself touches no element.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrow: PhantomData }
    }

    /// A pointer to element `start`, which need not exist.
    #[inline(always)]
    pub(crate) fn at(&self, start: usize) -> *mut T {
        self.start.wrapping_add(start)
    }

    /// The `len` elements from `start` on.
    ///
    /// # Safety
    ///
    /// While the result lives, no other slice that overlaps it may be taken.
    ///
    /// # Panics
    ///
    /// If the range is out of bounds.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "exclusiveness is the caller's promise")]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "slice of {len} at {start} leaves {}", self.len);
        // SAFETY: in bounds as just checked.
        let first = unsafe { self.start.add(start) };
        // SAFETY: in bounds, initialised, alive for `'a`, and not aliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(first, len) }
    }
}

#[cfg(test)]
mod tests;
