//! Which algorithm each convolution gets.

use repvgg_kernels::{Algorithm, ConvSpec, Estimate, Machine, Packing, Site};

use super::Settings;
use super::tune::Tuning;
use crate::{Error, Result};

/// How a convolution is computed, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The estimate of the algorithm taken.
    pub taken: Estimate,
    /// The estimates of the others that could have been taken, the fastest first.
    pub others: Vec<Estimate>,
    /// Why it was taken.
    pub reason: Reason,
    /// The sizes of its tiles along each axis, `[vertical, horizontal]`, if it has tiles.
    pub tiles: Option<[Vec<usize>; 2]>,
}

/// Why an algorithm was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its estimate is the least.
    Estimated,
    /// It was the fastest when measured.
    Measured,
    /// The settings ask for it.
    Asked,
    /// A faster one would take more memory for its weights than the settings allow.
    Memory,
}

/// The choice for each convolution of a plan.
pub(super) fn choose(sites: &[(ConvSpec, Site)], settings: &Settings, tuning: &Tuning) -> Result<Vec<Choice>> {
    let machine = Machine::typical(settings.level);
    let choice = |&(spec, site): &(ConvSpec, Site)| {
        let estimate = |algorithm| Estimate::new(settings.level, machine, &spec, site, algorithm);
        let mut others = Estimate::all(settings.level, machine, &spec, site, settings.accuracy);
        let position = |algorithm: Algorithm| others.iter().position(|other| other.algorithm == algorithm);
        let asked = settings.algorithm.filter(|algorithm| algorithm.fits(&spec));
        let measured = tuning.get(settings, &spec, site).and_then(position);
        match (asked, measured) {
            (Some(algorithm), _) => {
                others.retain(|other| other.algorithm != algorithm);
                Choice { taken: estimate(algorithm), others, reason: Reason::Asked, tiles: None }
            }
            (None, Some(index)) => {
                Choice { taken: others.remove(index), others, reason: Reason::Measured, tiles: None }
            }
            (None, None) => Choice { taken: others.remove(0), others, reason: Reason::Estimated, tiles: None },
        }
    };
    let mut choices: Vec<Choice> = sites.iter().map(choice).collect();
    if let Some(limit) = settings.memory_limit {
        fit(&mut choices, limit)?;
    }
    for (choice, (spec, site)) in choices.iter_mut().zip(sites) {
        let packing = Packing::of(choice.taken.algorithm, spec, site.size);
        let output = spec.geometry.output_size(site.size);
        choice.tiles = packing.ok().zip(output.ok()).and_then(|(packing, output)| packing.tiles(output));
    }
    Ok(choices)
}

/// Gives up algorithms with many weights, one layer at a time, where a byte saved costs the least time.
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
            let what = format!("expected at least {total} bytes for packed weights, found {limit}");
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
