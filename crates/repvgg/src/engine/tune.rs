//! Measured choices: the fastest algorithm of each convolution on this machine.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use repvgg_kernels::{
    Activation, Algorithm, Buffer, ConvPlan, Geometry, GeometryError, Layout, PackedConv2d, Packing, Parameters, Pass,
    ThreadPool,
};

use super::Options;
use super::choice::ConvSite;
use crate::error::expected;
use crate::file::{read_bounded, write_atomically};
use crate::{Error, Result};

/// The largest file of choices, in bytes.
const FILE_LIMIT: u64 = 16 << 20;

/// Candidates with estimates beyond this multiple of the lowest are not measured.
const CANDIDATES: f64 = 2.0;

/// Rounds; in each, the candidates are timed in turn.
const ROUNDS: usize = 7;

/// Bytes read between timed runs to evict weights as a whole network would: twice a large second-level cache.
const EVICTION: usize = (4 << 20) / size_of::<f32>();

/// The fastest algorithm of each measured convolution, by its shape.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tuning(BTreeMap<String, Algorithm>);

impl Tuning {
    /// An empty set of choices.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of measured convolutions.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the choices of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The path of the choices for a model file: its name with `.tune.json` appended.
    pub fn path(model: &Path) -> PathBuf {
        let mut name = model.as_os_str().to_owned();
        name.push(".tune.json");
        name.into()
    }

    /// Reads the choices stored beside a model file; empty if there are none.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn beside(model: &Path) -> Result<Self> {
        let path = Self::path(model);
        if path.exists() { Self::load(&path) } else { Ok(Self::new()) }
    }

    /// Reads choices from a file.
    ///
    /// # Errors
    /// When it cannot be read or is not a map from convolutions to algorithms.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = read_bounded(path, FILE_LIMIT)?;
        let names: BTreeMap<String, String> =
            serde_json::from_slice(&bytes).map_err(|error| Error::format(path.display(), error.to_string()))?;
        let parse = |(key, name): (String, String)| match name.parse::<Algorithm>() {
            Ok(algorithm) => Ok((key, algorithm)),
            Err(error) => Err(Error::format(path.display(), expected(error.expected()).found(error.found()))),
        };
        names.into_iter().map(parse).collect::<Result<_>>().map(Self)
    }

    /// Writes the choices to a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let names: BTreeMap<&str, String> = self.0.iter().map(|(key, value)| (&**key, value.to_string())).collect();
        write_atomically(path, |file| {
            serde_json::to_writer_pretty(&mut *file, &names)?;
            file.write_all(b"\n")
        })
    }

    pub(super) fn get(&self, options: &Options, site: &ConvSite) -> Option<Algorithm> {
        self.0.get(&key(options, site)).copied()
    }

    /// Measures the convolutions that have no measured choice yet. `progress(done, all)` is called before each and at the end.
    ///
    /// # Errors
    /// When the system refuses memory.
    pub(super) fn measure(
        &mut self,
        pool: &ThreadPool,
        sites: &[ConvSite],
        options: &Options,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<()> {
        for (done, site) in sites.iter().enumerate() {
            progress(done, sites.len());
            if let Entry::Vacant(entry) = self.0.entry(key(options, site)) {
                entry.insert(fastest(pool, options, site)?);
            }
        }
        progress(sites.len(), sites.len());
        Ok(())
    }
}

/// The convolution's shape and everything else that its candidates depend on, as text. The number of threads is left out:
/// results must not depend on it.
fn key(options: &Options, ConvSite { spec, site }: &ConvSite) -> String {
    let pair = |[a, b]: [usize; 2]| format!("{a}x{b}");
    let Geometry { in_channels, out_channels, kernel, stride, padding, dilation, groups } = spec.geometry;
    let layout = if spec.layout == Layout::Planar { "planar" } else { "blocked" };
    format!(
        "{} {:?} {in_channels}>{out_channels} kernel {} stride {} padding {} dilation {} groups {groups} {layout} batch {} size {}",
        options.level.name(),
        options.accuracy,
        pair(kernel),
        pair(stride),
        pair(padding),
        pair(dilation),
        site.batch,
        pair(site.size),
    )
}

/// An algorithm and its times.
struct Candidate {
    algorithm: Algorithm,
    conv: PackedConv2d,
    plan: ConvPlan,
    times: Vec<Duration>,
}

/// The candidate with the lowest median time.
fn fastest(pool: &ThreadPool, options: &Options, site: &ConvSite) -> Result<Algorithm> {
    let mut candidates = candidates(pool, options, site)?;
    if let [only] = &*candidates {
        return Ok(only.algorithm);
    }
    let batch = site.site.batch;
    let plan = &candidates[0].plan;
    let input = noise(plan.input_len(batch))?;
    let mut output = zeroed(plan.output(batch).len())?;
    let mut workspace = zeroed(candidates.iter().map(|candidate| candidate.plan.workspace_len()).max().unwrap_or(0))?;
    let other = vec![1.0_f32; EVICTION];
    for round in 0..=ROUNDS {
        for Candidate { conv, plan, times, .. } in &mut candidates {
            std::hint::black_box(other.iter().sum::<f32>());
            let start = Instant::now();
            let (output, workspace) = (&mut *output, &mut *workspace);
            conv.run(plan, pool, Pass { images: batch, input: &input, addend: None, output, workspace });
            if round > 0 {
                times.push(start.elapsed());
            }
        }
    }
    let median = |candidate: &Candidate| {
        let mut times = candidate.times.clone();
        times.sort_unstable();
        times[ROUNDS / 2]
    };
    let best = candidates.iter().min_by_key(|candidate| median(candidate));
    Ok(best.expect("there is a candidate").algorithm)
}

/// The algorithms with estimates near the lowest, ready to run.
fn candidates(pool: &ThreadPool, options: &Options, site: &ConvSite) -> Result<Vec<Candidate>> {
    let ConvSite { spec, site: images } = site;
    let weights = noise(spec.geometry.weight_len())?;
    let parameters = Parameters { weights: &weights, bias: None, addend_scale: None, activation: Activation::Relu };
    let prepare = |algorithm| -> std::result::Result<Candidate, GeometryError> {
        let packing = Packing::of(algorithm, spec, images.size)?;
        let conv = PackedConv2d::new(pool, options.level, spec, packing, parameters)?;
        let plan = ConvPlan::new(&conv, *images, pool.threads())?;
        Ok(Candidate { algorithm, conv, plan, times: Vec::with_capacity(ROUNDS) })
    };
    let estimates = site.estimates(options);
    let limit = CANDIDATES * estimates[0].time;
    let near = estimates.iter().filter(|estimate| estimate.time <= limit).map(|estimate| prepare(estimate.algorithm));
    near.collect::<std::result::Result<_, _>>().map_err(|error| Error::shape("tuning", error))
}

fn zeroed(len: usize) -> Result<Buffer> {
    Buffer::zeroed(len).map_err(|error| Error::io("tuning", error))
}

/// A fixed pattern: the time does not depend on the values as long as they are ordinary numbers.
fn noise(len: usize) -> Result<Buffer> {
    let mut buffer = zeroed(len)?;
    buffer.iter_mut().enumerate().for_each(|(i, x)| *x = ((i * 7919) % 1009) as f32 / 504.5 - 1.0);
    Ok(buffer)
}
