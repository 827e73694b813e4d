//! Measured choices: which algorithm was the fastest for a convolution on this machine.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use repvgg_kernels::{
    Activation, Algorithm, Buffer, ConvPlan, ConvSpec, Estimate, Geometry, GeometryError, Layout, Machine,
    PackedConv2d, Packing, Parameters, Pass, Site, ThreadPool,
};

use super::Settings;
use crate::error::expected;
use crate::file::{read_bounded, write_atomically};
use crate::{Error, Result};

/// The most bytes that a file of choices may have.
const FILE_LIMIT: u64 = 16 << 20;

/// Candidates whose estimate is beyond this multiple of the least are not measured.
const CANDIDATES: f64 = 2.0;

/// Rounds in which the candidates are timed in turn.
const ROUNDS: usize = 7;

/// What is read between two timed runs, so that weights come from where a whole network's come from: twice a large
/// second-level cache.
const EVICTION: usize = (4 << 20) / size_of::<f32>();

/// The fastest algorithm of each convolution that was measured, by its shape.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tuning(BTreeMap<String, Algorithm>);

impl Tuning {
    /// Nothing measured.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many convolutions were measured.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes over the choices of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Where the choices for a model file are kept: beside it, with `.tune.json` after its name.
    pub fn path(model: &Path) -> PathBuf {
        let mut name = model.as_os_str().to_owned();
        name.push(".tune.json");
        name.into()
    }

    /// The choices stored beside a model file; none where there is no such file.
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
    /// When it cannot be read, or is no map from convolutions to algorithms.
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

    pub(super) fn get(&self, settings: &Settings, spec: &ConvSpec, site: Site) -> Option<Algorithm> {
        self.0.get(&key(settings, spec, site)).copied()
    }

    /// Measures the convolutions that were not yet; `progress` hears how many of how many are done.
    ///
    /// # Errors
    /// When memory is refused.
    pub(super) fn measure(
        &mut self,
        convolutions: &[(ConvSpec, Site)],
        settings: &Settings,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<()> {
        let pool = ThreadPool::new(settings.threads);
        for (done, &(spec, site)) in convolutions.iter().enumerate() {
            progress(done, convolutions.len());
            let key = key(settings, &spec, site);
            if let Entry::Vacant(entry) = self.0.entry(key) {
                entry.insert(fastest(&pool, settings, &spec, site)?);
            }
        }
        progress(convolutions.len(), convolutions.len());
        Ok(())
    }
}

/// The convolution's shape in words, and what the candidates depend on. Threads are left out: results must not depend on them.
fn key(settings: &Settings, spec: &ConvSpec, site: Site) -> String {
    let pair = |[a, b]: [usize; 2]| format!("{a}x{b}");
    let Geometry { in_channels, out_channels, kernel, stride, padding, dilation, groups } = spec.geometry;
    let layout = if spec.layout == Layout::Planar { "planar" } else { "blocked" };
    format!(
        "{} {:?} {in_channels}>{out_channels} kernel {} stride {} padding {} dilation {} groups {groups} {layout} batch {} size {}",
        settings.level.name(),
        settings.accuracy,
        pair(kernel),
        pair(stride),
        pair(padding),
        pair(dilation),
        site.batch,
        pair(site.size),
    )
}

/// The candidate with the least median time.
fn fastest(pool: &ThreadPool, settings: &Settings, spec: &ConvSpec, site: Site) -> Result<Algorithm> {
    let machine = Machine::typical(settings.level);
    let estimates = Estimate::all(settings.level, machine, spec, site, settings.accuracy);
    let least = estimates[0].time;
    let candidates = estimates.iter().filter(|estimate| estimate.time <= CANDIDATES * least);
    let weights = noise(spec.geometry.weight_len())?;
    let parameters = Parameters { weights: &weights, bias: None, addend_scale: None, activation: Activation::Relu };
    let candidates = candidates
        .map(|candidate| {
            let packing = Packing::of(candidate.algorithm, spec, site.size)?;
            let conv = PackedConv2d::new(pool, settings.level, spec, packing, parameters)?;
            let plan = ConvPlan::new(&conv, site, pool.threads())?;
            Ok((candidate.algorithm, conv, plan))
        })
        .collect::<std::result::Result<Vec<_>, GeometryError>>()
        .map_err(|error| Error::shape("tuning", error))?;
    if let [(only, ..)] = &*candidates {
        return Ok(*only);
    }
    let (_, _, plan) = &candidates[0];
    let input = noise(plan.input_len(site.batch))?;
    let mut output = zeroed(plan.output(site.batch).len())?;
    let workspace = candidates.iter().map(|(_, _, plan)| plan.workspace_len()).max().unwrap_or(0);
    let mut workspace = zeroed(workspace)?;
    let other = vec![1.0_f32; EVICTION];
    let mut times = vec![Vec::with_capacity(ROUNDS); candidates.len()];
    for round in 0..=ROUNDS {
        for ((_, conv, plan), times) in candidates.iter().zip(&mut times) {
            std::hint::black_box(other.iter().sum::<f32>());
            let start = Instant::now();
            let pass = Pass {
                images: site.batch,
                input: &input,
                addend: None,
                output: &mut output,
                workspace: &mut workspace,
            };
            conv.run(plan, pool, pass);
            if round > 0 {
                times.push(start.elapsed());
            }
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[ROUNDS / 2]
    };
    let best = candidates.iter().zip(times.iter_mut().map(median)).min_by_key(|(_, time)| *time);
    let ((algorithm, ..), _) = best.expect("there is a candidate");
    Ok(*algorithm)
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
