//! What sessions of one network cost: the packed weights that eight of them hold together, and the time to open one more.
//!
//! `sessions [NAME] [THREADS]`, an architecture's name: `sessions repvgg-a0 2`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use repvgg::engine::{BatchShape, Options, Prepared, Session, Sharing, ThreadPool, thread_pool};
use repvgg::{Model, Result, Specification};

/// Batches of the sessions.
const BATCHES: std::ops::RangeInclusive<usize> = 1..=8;

/// How often a further session is opened; the least time counts.
const OPENED: usize = 10;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let architecture = match arguments.next() {
        Some(name) => Specification::open(&name)?,
        None => Specification::from_toml("depths = [1, 2, 2, 1]\nwidth = [0.25, 0.25, 0.25, 0.25]", "small")?,
    };
    let pool = thread_pool(arguments.next().and_then(|threads| threads.parse().ok()).unwrap_or(1))?;
    let model = Model::initialise(architecture, 0)?.fuse()?;
    for sharing in [Sharing::PerShape, Sharing::UpTo(*BATCHES.end())] {
        let options = Options { sharing, ..Options::default() };
        let prepared = Arc::new(Prepared::new(model.graph(), &model.weights, options)?);
        let size = [model.preprocessing.size; 2];
        let open = |batch| Session::new(&prepared, &pool, BatchShape { batch, size });
        let mut sessions = BATCHES.map(open).collect::<Result<Vec<Session>>>()?;
        let largest = sessions.iter().map(Session::packed_bytes).max().unwrap_or(0);
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        println!(
            "{sharing:?}: {:.1} MiB of packed weights for {} sessions, {:.2} times those of the largest; ms for a further session and for \
             a run, by batch:",
            mib(prepared.packed_bytes()),
            sessions.len(),
            prepared.packed_bytes() as f64 / largest as f64
        );
        let packed = prepared.packed_bytes();
        for session in &mut sessions {
            let further = further_session(&prepared, &pool, session.shape())?;
            let run = run(session)?;
            println!(
                "  {}: {:6.2} {:8.2}   {:5.1} MiB packed, {:4.1} MiB of its own",
                session.shape().batch,
                milliseconds(further),
                milliseconds(run),
                mib(session.packed_bytes()),
                mib(session.arena_bytes())
            );
        }
        assert_eq!(prepared.packed_bytes(), packed, "further sessions pack nothing");
    }
    Ok(())
}

/// The least time to open one more session, in which its memory is ready to be used.
fn further_session(prepared: &Arc<Prepared>, pool: &Arc<ThreadPool>, shape: BatchShape) -> Result<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..OPENED {
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
    for _ in 0..=OPENED {
        let start = Instant::now();
        session.run(&images, &mut output)?;
        least = least.min(start.elapsed());
    }
    Ok(least)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
