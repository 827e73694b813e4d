//! The one error type of the library.

use std::fmt;

/// What kind of thing went wrong; the message says where, what was expected and what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused: missing file, no permission, disk full.
    Io,
    /// Bytes that are not what their format promises: truncated, foreign, corrupt.
    Format,
    /// A tensor, image or graph whose shape does not fit.
    Shape,
    /// A specification or setting that describes nothing that can be built.
    Spec,
    /// Parameters that are missing, unexpected or not finite.
    Weights,
    /// A region of the graph that no single convolution can express.
    Fuse,
}

/// An error with its kind and one sentence: *place: expected …, found …*.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with its sentence.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The operating system's refusal at `place` (a path, usually).
    pub fn io(place: impl fmt::Display, source: std::io::Error) -> Self {
        Self { kind: ErrorKind::Io, message: format!("{place}: {source}"), source: Some(Box::new(source)) }
    }

    /// Bytes at `place` that are not what they should be.
    pub fn format(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Format, format!("{place}: {what}"))
    }

    /// A shape at `place` that does not fit.
    pub fn shape(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Shape, format!("{place}: {what}"))
    }

    /// A specification that describes nothing that can be built.
    pub fn spec(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Spec, format!("{place}: {what}"))
    }

    /// Parameters that do not fit the network.
    pub fn weights(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Weights, format!("{place}: {what}"))
    }

    /// A region that cannot be fused.
    pub fn fuse(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Fuse, format!("{place}: {what}"))
    }

    /// The same error with the place that contains it said first.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The same error as one of another kind.
    #[must_use]
    pub fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
