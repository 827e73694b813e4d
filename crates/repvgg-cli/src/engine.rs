//! Options of every command that runs a network.

use clap::ValueEnum;
use repvgg::engine::{self, Algorithm, Engine, Level, Options, thread_pool};

use crate::source::default_threads;

/// How a network is run.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineOptions {
    /// Threads; results do not depend on their number
    #[arg(long, default_value_t = default_threads())]
    pub(crate) threads: usize,
    /// Largest tiles of Winograd's algorithm: larger ones are faster and less accurate [default: strict for `repvgg run`, else default]
    #[arg(long, value_enum)]
    accuracy: Option<Accuracy>,
    /// Use one algorithm for every layer that supports it: direct, depthwise, winograd2 to winograd8, or winograd2-raw to
    /// winograd8-raw, which transform weights while they run; overrides --accuracy; other layers use their fastest [default: each
    /// layer's fastest]
    #[arg(long, value_name = "NAME")]
    algorithm: Option<Algorithm>,
    /// Memory limit for packed weights, such as 200M or 1G: large transforms are given up layer by layer until the weights fit, even
    /// those that --algorithm requests
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory_limit: Option<u64>,
    /// Instruction set: portable, avx2 or avx512 [default: the best that this processor has]
    #[arg(long, value_name = "LEVEL", value_parser = parse_level)]
    simd: Option<Level>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Accuracy {
    /// As accurate as direct convolution: tiles of 2
    Strict,
    /// Within 5e-6 of the largest logit: tiles of up to 6
    Default,
    /// Tiles of up to 8
    Fast,
}

impl EngineOptions {
    /// The engine, without measured choices.
    ///
    /// # Errors
    /// When the number of threads is out of bounds.
    pub(crate) fn engine(&self) -> repvgg::Result<Engine> {
        Ok(Engine { options: self.options(), pool: thread_pool(self.threads)? })
    }

    /// The same, for comparing numbers rather than for speed.
    ///
    /// # Errors
    /// As [`EngineOptions::engine`].
    pub(crate) fn strict_engine(&self) -> repvgg::Result<Engine> {
        Ok(Engine { options: self.options_or(Accuracy::Strict), pool: thread_pool(self.threads)? })
    }

    /// How networks compute.
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

fn parse_level(name: &str) -> Result<Level, String> {
    let names = Level::NAMES.join(", ");
    Level::named(name).ok_or_else(|| format!("expected one of {names} that this processor has, found {name}"))
}

/// `1000000`, `200M`, `1.5GiB`: K, M and G are powers of 1024.
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

    #[test]
    fn levels_are_those_of_this_processor() {
        assert!(parse_level("portable").is_ok());
        let expected = "expected one of portable, avx2, avx512 that this processor has, found sse9".to_owned();
        assert_eq!(parse_level("sse9"), Err(expected));
    }
}
