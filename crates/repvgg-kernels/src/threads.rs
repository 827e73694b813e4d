//! Persistent worker threads, shared by inference and training, and safe ways to divide data among them.
//!
//! A run publishes one job, and every thread claims task numbers until all are claimed. A worker that wakes up too late finds
//! the job closed, and the caller does not wait for it: another process that takes a core delays one task, not the whole run.
//! Workers spin briefly before they park, because the gap between two layers of a network is shorter than a wake-up.

#![expect(
    unsafe_code,
    reason = "a job borrows from the caller's stack, and its workers write disjoint parts of a slice"
)]

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Rounds that a thread waits before it parks: first with a pause instruction (a few microseconds in all), then with a yield.
const SPINS: usize = 2000;
const YIELDS: usize = 50;

/// A pool of threads that run numbered tasks. The calling thread works too, as worker 0.
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
    /// Held during a run, so that runs of several callers take turns.
    run_lock: Mutex<()>,
}

struct Shared {
    state: Mutex<PoolState>,
    /// Signalled when a job opens and at shutdown.
    opened: Condvar,
    /// Signalled when the last worker leaves a job.
    finished: Condvar,
    /// The number of jobs opened so far; spinning workers read it without the lock.
    generation: AtomicUsize,
    /// The number of workers inside the open job; written under the lock.
    inside: AtomicUsize,
    /// The unclaimed tasks of the open job.
    tasks: TaskQueue,
}

/// The unclaimed tasks of a run. Half of the threads claim from the front, half from the back, so a thread gets about the
/// same part in every run and finds its data in its own cache. A cache line that another core wrote takes about 80 ns to
/// read or write: with two threads and a shared front, layers of 28×28 took 0.24 ms instead of 0.14.
pub(crate) struct TaskQueue(AtomicU64);

impl TaskQueue {
    /// The tasks `0..count`.
    pub(crate) fn new(count: usize) -> Self {
        Self(AtomicU64::new(count as u64))
    }

    /// Refills the queue with the tasks `0..count`.
    fn reset(&self, count: usize) {
        assert!(u32::try_from(count).is_ok(), "{count} tasks do not fit 32 bits");
        self.0.store(count as u64, Ordering::Relaxed);
    }

    /// Claims a task for a worker, if one is unclaimed.
    pub(crate) fn claim(&self, worker: usize) -> Option<usize> {
        // The upper half holds the first unclaimed task, the lower half the end of the unclaimed tasks.
        let claimed = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tasks| {
            let (first, end) = (tasks >> 32, tasks & u64::from(u32::MAX));
            (first < end).then(|| if worker.is_multiple_of(2) { tasks + (1 << 32) } else { tasks - 1 })
        });
        let tasks = claimed.ok()?;
        let task = if worker.is_multiple_of(2) { tasks >> 32 } else { (tasks & u64::from(u32::MAX)) - 1 };
        Some(task as usize)
    }

    /// Whether all tasks are claimed.
    pub(crate) fn is_empty(&self) -> bool {
        let tasks = self.0.load(Ordering::Relaxed);
        tasks >> 32 >= tasks & u64::from(u32::MAX)
    }
}

struct PoolState {
    job: Option<Job>,
    panic: Option<Box<dyn Any + Send>>,
    shutdown: bool,
}

/// The body of a run and its number of tasks. The true lifetime of the body is that of the `run` call that opened the job.
#[derive(Clone, Copy)]
struct Job {
    body: &'static (dyn Fn(usize, usize) + Sync),
    tasks: usize,
}

impl ThreadPool {
    /// Creates a pool of `threads` threads, the caller's included; 0 counts as 1.
    ///
    /// # Panics
    ///
    /// If the system cannot create a thread; [`try_new`](Self::try_new) returns an error instead.
    pub fn new(threads: usize) -> Self {
        Self::try_new(threads).expect("the system can create a thread")
    }

    /// Creates a pool of `threads` threads, the caller's included; 0 counts as 1.
    ///
    /// # Errors
    ///
    /// When the system cannot create a thread.
    pub fn try_new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(PoolState { job: None, panic: None, shutdown: false }),
            opened: Condvar::new(),
            finished: Condvar::new(),
            generation: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            tasks: TaskQueue::new(0),
        });
        // A failure drops the pool, which ends the threads created so far.
        let mut pool = Self { shared, workers: Vec::new(), run_lock: Mutex::new(()) };
        for worker in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("kernels-{worker}"));
            pool.workers.push(builder.spawn(move || shared.serve(worker))?);
        }
        Ok(pool)
    }

    /// The number of threads that work on a run, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body(task, worker)` once for every task in `0..tasks`, and returns when all calls have returned. At any time,
    /// each `worker` in `0..threads` is inside at most one call. Runs of several callers take turns. Allocates nothing.
    ///
    /// A task must not start a run of the same pool: it would deadlock.
    ///
    /// # Panics
    ///
    /// If a task panics, with the payload of the first one. Tasks that are unclaimed by then are skipped, and the pool
    /// remains usable. Also if there are 2³² tasks or more.
    pub fn run(&self, tasks: usize, body: &(dyn Fn(usize, usize) + Sync)) {
        let _guard = lock(&self.run_lock);
        if self.workers.is_empty() || tasks <= 1 {
            return (0..tasks).for_each(|task| body(task, 0));
        }
        // Before the lifetime is extended: a panic between `open` and `close` would leave a dangling body.
        assert!(u32::try_from(tasks).is_ok(), "{tasks} tasks do not fit 32 bits");
        // SAFETY: only the lifetime changes. On every path, `close` below returns after the last use by any worker.
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

    /// Like [`ThreadPool::run`], with an equal part of `scratch` for each worker: `body(task, part)`.
    ///
    /// # Panics
    ///
    /// As [`ThreadPool::run`].
    pub fn run_with_scratch<U: Send>(&self, tasks: usize, scratch: &mut [U], body: impl Fn(usize, &mut [U]) + Sync) {
        let part = scratch.len() / self.threads();
        let scratch = Disjoint::new(scratch);
        self.run(tasks, &|task, worker| {
            // SAFETY: a worker is inside one call at a time, and the parts of different workers do not overlap.
            let part = unsafe { scratch.slice(worker * part, part) };
            body(task, part);
        });
    }

    /// Calls `body(index, chunk)` for every chunk of `len` elements of `data`; the last chunk may be shorter. Allocates
    /// nothing.
    ///
    /// To walk through several slices in step, pass a slice of tuples of chunks, `&mut [(&mut [f32], &mut [f32])]`, with a
    /// `len` of 1.
    ///
    /// # Panics
    ///
    /// If `len` is zero and `data` is not empty, or as for [`ThreadPool::run`].
    pub fn for_each_chunk<T: Send>(&self, data: &mut [T], len: usize, body: impl Fn(usize, &mut [T]) + Sync) {
        self.for_each_chunk_with_scratch::<T, ()>(data, len, &mut [], |index, chunk, _| body(index, chunk));
    }

    /// Like [`ThreadPool::for_each_chunk`], with an equal part of `scratch` for each worker: `body(index, chunk, part)`.
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
            // SAFETY: every task is claimed once, and the chunks of different tasks do not overlap.
            let chunk = unsafe { data.slice(start, len.min(total - start)) };
            body(index, chunk, part);
        });
    }

    /// Calls `body(index, part)` for every part of `data` between neighbouring `bounds`.
    ///
    /// # Panics
    ///
    /// If the bounds descend or exceed the length of `data`, or as for [`ThreadPool::run`].
    pub fn for_each_part<T: Send>(&self, data: &mut [T], bounds: &[usize], body: impl Fn(usize, &mut [T]) + Sync) {
        assert!(bounds.is_sorted(), "bounds ascend");
        let data = Disjoint::new(data);
        self.run(bounds.len().saturating_sub(1), &|index, _| {
            // SAFETY: every task is claimed once, and the parts between ascending bounds do not overlap.
            let part = unsafe { data.slice(bounds[index], bounds[index + 1] - bounds[index]) };
            body(index, part);
        });
    }

    /// Returns the results of `body(index)` for every index in `0..count`.
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
            // Workers catch the panics of their tasks, so there is nothing to report.
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

    /// Claims and runs tasks until all are claimed.
    fn work(&self, job: Job, worker: usize) {
        while let Some(task) = self.tasks.claim(worker) {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| (job.body)(task, worker))) {
                self.tasks.reset(0);
                lock(&self.state).panic.get_or_insert(payload);
            }
        }
    }

    /// Closes the job to further workers, waits for those inside, and returns the payload of a task's panic, if any.
    fn close(&self) -> Option<Box<dyn Any + Send>> {
        lock(&self.state).job = None;
        wait_briefly(|| self.inside.load(Ordering::Acquire) == 0);
        let mut state = lock(&self.state);
        while self.inside.load(Ordering::Acquire) > 0 {
            state = self.finished.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.panic.take()
    }

    /// The loop of a worker: waits for a job and works on it, until shutdown.
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
                self.finished.notify_one();
            }
            drop(state);
        }
    }
}

/// Waits for `condition` for a short time; the caller checks it again under the lock.
fn wait_briefly(condition: impl Fn() -> bool) {
    for round in 0..SPINS + YIELDS {
        if condition() {
            return;
        }
        if round < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

/// Locks a mutex and ignores poison: a panic cannot break an invariant of the data behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slice of which several tasks write disjoint parts at the same time.
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

// SAFETY: it is a `&mut [T]`, and the contract of `slice` divides its exclusive use among threads.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above; sharing the pointer itself touches no element.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrow: PhantomData }
    }

    /// A pointer to element `start`, which may be out of bounds.
    #[inline(always)]
    pub(crate) fn pointer(&self, start: usize) -> *mut T {
        self.start.wrapping_add(start)
    }

    /// The `len` elements starting at `start`.
    ///
    /// # Safety
    ///
    /// No other slice that overlaps the result may be taken during its lifetime.
    ///
    /// # Panics
    ///
    /// If the range is out of bounds.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the caller guarantees exclusive access")]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "{len} elements at {start} exceed {}", self.len);
        // SAFETY: in bounds by the assertion above.
        let first = unsafe { self.start.add(start) };
        // SAFETY: in bounds, initialised and alive for `'a`; the caller guarantees that nothing aliases it.
        unsafe { std::slice::from_raw_parts_mut(first, len) }
    }
}

#[cfg(test)]
mod tests;
