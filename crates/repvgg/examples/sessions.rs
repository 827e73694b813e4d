//! The cost of sessions: the packed weights that eight of them share, and the time to open another.
//!
//! Usage: `sessions [NAME] [THREADS]`, by default `sessions repvgg-a0 2`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use repvgg::engine::{BatchShape, Options, Prepared, Session, Sharing, ThreadPool, thread_pool};
use repvgg::{Model, Result, Specification};

/// The batch of each session.
const BATCHES: std::ops::RangeInclusive<usize> = 1..=8;

/// The number of repetitions of each timing; the least time counts.
const REPETITIONS: usize = 10;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "repvgg-a0".to_owned());
    let pool = thread_pool(arguments.next().and_then(|threads| threads.parse().ok()).unwrap_or(2))?;
    let model = Model::initialise(Specification::open(&name)?, 0)?.fuse()?;
    for sharing in [Sharing::PerShape, Sharing::UpTo(*BATCHES.end())] {
        let options = Options { sharing, ..Options::default() };
        let prepared = Arc::new(Prepared::new(model.graph(), &model.weights, options)?);
        let size = model.preprocessing.size;
        let open = |batch| Session::new(&prepared, &pool, BatchShape { batch, size });
        let mut sessions = BATCHES.map(open).collect::<Result<Vec<Session>>>()?;
        let largest = sessions.iter().map(Session::packed_bytes).max().unwrap_or(0);
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        let packed = prepared.packed_bytes();
        let ratio = packed as f64 / largest as f64;
        println!(
            "{sharing:?}: {:.1} MiB of packed weights, {ratio:.2} times those of the largest session",
            mib(packed)
        );
        assert!(sharing == Sharing::PerShape || ratio <= 1.5, "one packing serves all batches");
        println!("batch   open ms   run ms   MiB packed   MiB of its own");
        for session in &mut sessions {
            let further = further_session(&prepared, &pool, session.shape())?;
            let run = run(session)?;
            let [batch, open, run] = [session.shape().batch as f64, milliseconds(further), milliseconds(run)];
            let [packed, own] = [session.packed_bytes(), session.arena_bytes()].map(mib);
            println!("{batch:5} {open:9.2} {run:8.2} {packed:12.1} {own:16.1}");
            assert!(name != "repvgg-a0" || further <= LIMIT, "a session is cheap to open");
        }
        assert_eq!(prepared.packed_bytes(), packed, "further sessions pack nothing");
    }
    Ok(())
}

/// The longest time that another session of RepVGG-A0 may take to open.
const LIMIT: Duration = Duration::from_millis(5);

/// The least time to open another session. On a machine that is busy with other work, it takes more attempts to see it.
fn further_session(prepared: &Arc<Prepared>, pool: &Arc<ThreadPool>, shape: BatchShape) -> Result<Duration> {
    let mut least = Duration::MAX;
    for attempt in 0..20 * REPETITIONS {
        if attempt >= REPETITIONS && least <= LIMIT {
            break;
        }
        let start = Instant::now();
        let session = Session::new(prepared, pool, shape)?;
        least = least.min(start.elapsed());
        drop(session);
    }
    Ok(least)
}

/// The least time of a run of a full batch.
fn run(session: &mut Session) -> Result<Duration> {
    let elements = |shape: [usize; 3]| session.shape().batch * shape.iter().product::<usize>();
    let images = repvgg::measure::images(elements(session.input_shape()));
    let mut output = vec![0.0; elements(session.output_shape())];
    let mut least = Duration::MAX;
    for _ in 0..=REPETITIONS {
        let start = Instant::now();
        session.run(&images, &mut output)?;
        least = least.min(start.elapsed());
    }
    Ok(least)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
