//! The algorithm of each convolution.

use repvgg_kernels::{Algorithm, ConvSpec, Estimate, Machine, Packing, Site};

use super::{Options, Sharing};
use crate::error::expected;
use crate::{Error, Result};

/// The algorithm of a convolution, and the reason for it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Choice {
    /// The estimate of the chosen algorithm.
    pub taken: Estimate,
    /// The estimates of the alternatives, fastest first.
    pub others: Vec<Estimate>,
    /// The reason for the choice.
    pub reason: Reason,
    /// The sizes of its tiles along each axis, `[vertical, horizontal]`, if it has tiles.
    pub tiles: Option<[Vec<usize>; 2]>,
}

/// The reason for choosing an algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It has the lowest estimate.
    Estimated,
    /// It was the fastest when measured.
    Measured,
    /// The options request it.
    Asked,
    /// The weights of a faster one exceed the memory limit.
    Memory,
    /// Sessions of other batches share its packed weights ([`Sharing`]).
    Shared,
}

/// A convolution of a program, and the images that it is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConvSite {
    pub(super) spec: ConvSpec,
    pub(super) site: Site,
}

/// The choice for each convolution of a session.
///
/// # Errors
/// When no choice fits the memory limit.
pub(super) fn choose(sites: &[ConvSite], options: &Options) -> Result<Vec<Choice>> {
    let mut choices = match options.sharing {
        Sharing::UpTo(batch) if sites.iter().any(|ConvSite { site, .. }| site.batch < batch) => {
            let largest: Vec<ConvSite> = sites.iter().map(|site| site.with_batch(batch)).collect();
            let shared = fastest_within_limit(&largest, options)?;
            sites.iter().zip(&shared).map(|(site, shared)| site.choice_like(shared, options)).collect()
        }
        Sharing::UpTo(_) | Sharing::PerShape => fastest_within_limit(sites, options)?,
    };
    for (choice, ConvSite { spec, site }) in choices.iter_mut().zip(sites) {
        let packing = Packing::of(choice.taken.algorithm, spec, site.size);
        let output = spec.geometry.output_size(site.size);
        choice.tiles = packing.ok().zip(output.ok()).and_then(|(packing, output)| packing.tiles(output));
    }
    Ok(choices)
}

fn fastest_within_limit(sites: &[ConvSite], options: &Options) -> Result<Vec<Choice>> {
    let mut choices: Vec<Choice> = sites.iter().map(|site| site.fastest(options)).collect();
    if let Some(limit) = options.memory_limit {
        fit(&mut choices, limit)?;
    }
    Ok(choices)
}

impl ConvSite {
    fn with_batch(self, batch: usize) -> Self {
        Self { site: Site { batch, ..self.site }, ..self }
    }

    /// The estimates of all algorithms that the options allow, fastest first.
    pub(super) fn estimates(&self, options: &Options) -> Vec<Estimate> {
        let machine = Machine::typical(options.level);
        Estimate::all(options.level, machine, &self.spec, self.site, options.accuracy)
    }

    /// The algorithm that the options request, else the one that measured fastest, else the one with the lowest estimate.
    fn fastest(&self, options: &Options) -> Choice {
        let asked = options.algorithm.filter(|algorithm| algorithm.fits(&self.spec));
        let others = self.estimates(options);
        let is_allowed = |algorithm: &Algorithm| others.iter().any(|other| other.algorithm == *algorithm);
        let measured = options.tuning.get(options, self).filter(is_allowed);
        let (algorithm, reason) = match (asked, measured) {
            (Some(algorithm), _) => (algorithm, Reason::Asked),
            (None, Some(algorithm)) => (algorithm, Reason::Measured),
            (None, None) => (others[0].algorithm, Reason::Estimated),
        };
        self.choice(algorithm, reason, others, options)
    }

    /// The same algorithm as `shared`, which was chosen for another batch.
    fn choice_like(&self, shared: &Choice, options: &Options) -> Choice {
        let choice = self.choice(shared.taken.algorithm, shared.reason, self.estimates(options), options);
        let is_least = choice.others.first().is_none_or(|other| choice.taken.time <= other.time);
        let reason = if shared.reason == Reason::Estimated && !is_least { Reason::Shared } else { shared.reason };
        Choice { reason, ..choice }
    }

    /// The choice of an algorithm from `estimates`, or of another one that the options request.
    fn choice(&self, algorithm: Algorithm, reason: Reason, estimates: Vec<Estimate>, options: &Options) -> Choice {
        let (mut taken, others): (Vec<Estimate>, Vec<Estimate>) =
            estimates.into_iter().partition(|estimate| estimate.algorithm == algorithm);
        let estimate = || {
            let machine = Machine::typical(options.level);
            Estimate::new(options.level, machine, &self.spec, self.site, algorithm)
        };
        Choice { taken: taken.pop().unwrap_or_else(estimate), others, reason, tiles: None }
    }
}

/// Replaces algorithms by ones with fewer weights until the limit holds, first where a saved byte costs the least time.
fn fit(choices: &mut [Choice], limit: u64) -> Result<()> {
    let mut total: u64 = choices.iter().map(|choice| choice.taken.weight_bytes).sum();
    while total > limit {
        let swaps = choices.iter().enumerate().flat_map(|(layer, Choice { taken, others, .. })| {
            let smaller = others.iter().enumerate().filter(|(_, other)| other.weight_bytes < taken.weight_bytes);
            smaller.map(move |(index, other)| {
                let saving = taken.weight_bytes - other.weight_bytes;
                ((other.time - taken.time) / saving as f64, saving, layer, index)
            })
        });
        let Some((_, saving, layer, index)) = swaps.min_by(|a, b| a.0.total_cmp(&b.0)) else {
            let what = expected(format_args!("at least {total} bytes for packed weights")).found(limit);
            return Err(Error::spec("memory limit", what));
        };
        let Choice { taken, others, reason, .. } = &mut choices[layer];
        std::mem::swap(taken, &mut others[index]);
        others.sort_by(|a, b| a.time.total_cmp(&b.time));
        *reason = Reason::Memory;
        total -= saving;
    }
    Ok(())
}
