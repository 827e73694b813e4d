//! The engine options, shared by all commands that run a network.

use clap::ValueEnum;
use repvgg::engine::{self, Algorithm, Engine, Level, Options, thread_pool};

use crate::listed;
use crate::source::default_threads;

/// The options of the engine.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineOptions {
    /// Number of CPU threads; it does not change the results [default: all cores]
    #[arg(long, value_name = "N", default_value_t = default_threads(), hide_default_value = true)]
    pub(crate) threads: usize,
    /// Accuracy of Winograd's algorithm: larger tiles are faster and less accurate [default: strict for `repvgg run`, else default]
    #[arg(long, value_enum)]
    accuracy: Option<Accuracy>,
    /// Algorithm for every layer that supports it [default: the fastest for each layer]
    ///
    /// Layers that do not support it use their fastest algorithm. Those that end in -raw transform weights while they run. Overrides
    /// --accuracy.
    #[arg(long, value_name = "NAME", value_parser = listed::algorithm())]
    algorithm: Option<Algorithm>,
    /// Memory limit for packed weights, such as 200M or 1G [default: none]
    ///
    /// Layers with large transformed weights switch to smaller ones, one by one, until all weights fit. This includes layers that use the
    /// algorithm of --algorithm. K, M and G are powers of 1024.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory_limit: Option<u64>,
    /// Instruction set [default: the best that this processor supports]
    #[arg(long, value_name = "LEVEL", value_parser = listed::level())]
    simd: Option<Level>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Accuracy {
    /// Tiles of 2, as accurate as direct convolution
    Strict,
    /// Tiles of up to 6, errors within 5e-6 of the largest logit
    Default,
    /// Tiles of up to 8
    Fast,
}

impl EngineOptions {
    /// The engine with these options, without measured choices.
    ///
    /// # Errors
    /// When the number of threads is out of range.
    pub(crate) fn engine(&self) -> repvgg::Result<Engine> {
        Ok(Engine { options: self.options(), pool: thread_pool(self.threads)? })
    }

    /// The same engine with strict accuracy by default, to compare numbers.
    ///
    /// # Errors
    /// When the number of threads is out of range.
    pub(crate) fn strict_engine(&self) -> repvgg::Result<Engine> {
        Ok(Engine { options: self.options_or(Accuracy::Strict), pool: thread_pool(self.threads)? })
    }

    /// The engine options for the library.
    pub(crate) fn options(&self) -> Options {
        self.options_or(Accuracy::Default)
    }

    fn options_or(&self, default: Accuracy) -> Options {
        let accuracy = match self.accuracy.unwrap_or(default) {
            Accuracy::Strict => engine::Accuracy::Strict,
            Accuracy::Default => engine::Accuracy::Default,
            Accuracy::Fast => engine::Accuracy::Fast,
        };
        let Self { algorithm, memory_limit, .. } = *self;
        Options { accuracy, algorithm, memory_limit, level: self.simd.unwrap_or_default(), ..Options::default() }
    }
}

/// Parses `1000000`, `200M` or `1.5GiB`. K, M and G are powers of 1024.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1024.0 * 1024.0,
        "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => f64::NAN,
    };
    match digits.parse::<f64>().map(|number| number * factor) {
        Ok(bytes) if (1.0..1e18).contains(&bytes) => Ok(bytes as u64),
        _ => Err(format!("expected a number of bytes such as 200M or 1G, found {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse_bytes("1000"), Ok(1000));
        assert_eq!(parse_bytes("200M"), Ok(200 << 20));
        assert_eq!(parse_bytes("1.5GiB"), Ok(3 << 29));
        for wrong in ["", "M", "-1", "1T", "nan", "inf"] {
            let expected = format!("expected a number of bytes such as 200M or 1G, found {wrong}");
            assert_eq!(parse_bytes(wrong), Err(expected));
        }
    }
}
