//! Errors as data: kind, place, what was expected and what was found.
//!
//! An [`Error`] has fields. Printing composes its sentence from them, `place: expected X, found Y` or `place: problem`; a
//! program that reacts to an error reads the fields.
//!
//! ```
//! use repvgg::Error;
//! use repvgg::error::expected;
//!
//! let problem = expected("[192, 192, 3, 3]").found("[192, 192, 1, 1]");
//! let error = Error::weights("stage3.4.rbr_dense.conv.weight", problem).within("model.safetensors");
//!
//! assert!(error.is_weights());
//! assert_eq!(error.place(), Some("stage3.4.rbr_dense.conv.weight"));
//! assert_eq!(error.expected(), Some("[192, 192, 3, 3]"));
//! assert_eq!(
//!     error.to_string(),
//!     "model.safetensors: stage3.4.rbr_dense.conv.weight: expected [192, 192, 3, 3], found [192, 192, 1, 1]"
//! );
//! ```

use std::fmt::{self, Display};
use std::io;
use std::sync::Arc;

/// The kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An error of the operating system or the network: missing file, no permission, full disk.
    Io,
    /// Bytes that violate their format: truncated, foreign or corrupt.
    Format,
    /// A tensor, image or graph whose shape does not fit.
    Shape,
    /// An invalid specification or setting from the caller.
    Spec,
    /// Parameters that are missing, unexpected or not finite.
    Weights,
    /// A region of the graph that no single convolution can express.
    Fuse,
    /// A model file that fits several architectures; the caller must choose one.
    Ambiguous,
}

/// The result of the library's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The most failures that a sentence lists.
pub(crate) const SHOWN: usize = 4;

/// A failure: its kind, where it happened, what was expected and what was found.
#[derive(Debug, Clone)]
pub struct Error(Box<Fields>);

#[derive(Debug, Clone)]
struct Fields {
    kind: ErrorKind,
    /// Innermost first.
    places: Vec<String>,
    problem: Problem,
    others: Vec<Error>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// A problem without its place: the part of an [`Error`] that a function can state without knowing its caller.
///
/// Made by [`expected`] or from a string.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problem {
    /// The place within the function's own subject, such as a field.
    place: Option<String>,
    summary: Option<String>,
    expected: Option<String>,
    found: Option<String>,
    hint: Option<String>,
}

/// A mismatch, to be completed by [`Expected::found`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Expected(String);

/// Begins a mismatch: `expected("a square").found("3 × 4")`.
pub fn expected(expected: impl Display) -> Expected {
    Expected(expected.to_string())
}

impl Expected {
    /// The mismatch between what was expected and `found`.
    pub fn found(self, found: impl Display) -> Problem {
        Problem { expected: Some(self.0), found: Some(found.to_string()), ..Problem::default() }
    }
}

impl Problem {
    /// Something absent: `missing, expected X`.
    pub fn missing(expected: impl Display) -> Self {
        Self { summary: Some("missing".to_owned()), expected: Some(expected.to_string()), ..Self::default() }
    }

    /// Adds a remedy, which the sentence prints in parentheses.
    #[must_use]
    pub fn with_hint(self, hint: impl Display) -> Self {
        Self { hint: Some(hint.to_string()), ..self }
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        let mut separator = "";
        for (label, field) in [("", &self.summary), ("expected ", &self.expected), ("found ", &self.found)] {
            if let Some(text) = field {
                write!(f, "{separator}{label}{text}")?;
                separator = ", ";
            }
        }
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl From<String> for Problem {
    fn from(summary: String) -> Self {
        Self { summary: Some(summary), ..Self::default() }
    }
}

impl From<&str> for Problem {
    fn from(summary: &str) -> Self {
        summary.to_owned().into()
    }
}

impl From<repvgg_kernels::GeometryError> for Problem {
    fn from(error: repvgg_kernels::GeometryError) -> Self {
        Self { place: Some(error.place()), ..expected(error.expected()).found(error.found()) }
    }
}

impl Error {
    /// A failure whose place the caller adds with [`within`](Self::within).
    pub fn new(kind: ErrorKind, problem: impl Into<Problem>) -> Self {
        let mut problem = problem.into();
        let places = problem.place.take().into_iter().collect();
        Self(Box::new(Fields { kind, places, problem, others: Vec::new(), source: None }))
    }

    /// An error of the operating system at `place`, usually a path.
    pub fn io(place: impl Display, source: io::Error) -> Self {
        Self::from(source).within(place)
    }

    /// Bytes at `place` that violate their format.
    pub fn format(place: impl Display, problem: impl Into<Problem>) -> Self {
        Self::new(ErrorKind::Format, problem).within(place)
    }

    /// A shape at `place` that does not fit.
    pub fn shape(place: impl Display, problem: impl Into<Problem>) -> Self {
        Self::new(ErrorKind::Shape, problem).within(place)
    }

    /// An invalid specification or setting at `place`.
    pub fn spec(place: impl Display, problem: impl Into<Problem>) -> Self {
        Self::new(ErrorKind::Spec, problem).within(place)
    }

    /// A parameter, named by `place`, that does not fit the network.
    pub fn weights(place: impl Display, problem: impl Into<Problem>) -> Self {
        Self::new(ErrorKind::Weights, problem).within(place)
    }

    /// A region that cannot be fused because of the node at `place`.
    pub fn fuse(place: impl Display, problem: impl Into<Problem>) -> Self {
        Self::new(ErrorKind::Fuse, problem).within(place)
    }

    /// Combines failures of one kind; the fields are those of the first. `None` if there are none.
    pub(crate) fn several(errors: Vec<Self>) -> Option<Self> {
        let mut errors = errors.into_iter();
        let mut first = errors.next()?;
        first.0.others = errors.collect();
        Some(first)
    }

    /// Adds an outer place, which the sentence then starts with.
    #[must_use]
    pub fn within(mut self, place: impl Display) -> Self {
        self.0.places.push(place.to_string());
        self
    }

    /// Rewrites the innermost place, and those of further failures, with `spell`.
    #[must_use]
    pub fn map_place(mut self, spell: impl Fn(&str) -> String) -> Self {
        let others = self.0.others.iter_mut();
        for place in others.filter_map(|other| other.0.places.first_mut()) {
            *place = spell(place);
        }
        if let Some(place) = self.0.places.first_mut() {
            *place = spell(place);
        }
        self
    }

    /// Changes the kind: an invalid specification in a file is the file's fault, not the caller's.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Adds a remedy, which the sentence prints in parentheses.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Display) -> Self {
        self.0.problem.hint = Some(hint.to_string());
        self
    }

    /// Adds the lower-level error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The innermost place: the parameter, node, entry or file that is wrong.
    pub fn place(&self) -> Option<&str> {
        self.0.places.first().map(String::as_str)
    }

    /// All places, from the outermost, usually a file, to the innermost.
    pub fn places(&self) -> impl Iterator<Item = &str> {
        self.0.places.iter().rev().map(String::as_str)
    }

    /// The problem without its place.
    pub fn problem(&self) -> &Problem {
        &self.0.problem
    }

    /// What was expected, if the failure is a mismatch.
    pub fn expected(&self) -> Option<&str> {
        self.0.problem.expected.as_deref()
    }

    /// What was found instead, if the failure is a mismatch.
    pub fn found(&self) -> Option<&str> {
        self.0.problem.found.as_deref()
    }

    /// A remedy.
    pub fn hint(&self) -> Option<&str> {
        self.0.problem.hint.as_deref()
    }

    /// Further failures of the same check, such as other parameters that do not fit.
    pub fn others(&self) -> &[Self] {
        &self.0.others
    }

    /// Whether the operating system or the network failed.
    pub fn is_io(&self) -> bool {
        self.kind() == ErrorKind::Io
    }

    /// Whether a file or folder does not exist.
    pub fn is_not_found(&self) -> bool {
        let source = self.0.source.as_ref().and_then(|source| source.downcast_ref::<io::Error>());
        source.is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Whether bytes violate their format.
    pub fn is_format(&self) -> bool {
        self.kind() == ErrorKind::Format
    }

    /// Whether a shape does not fit.
    pub fn is_shape(&self) -> bool {
        self.kind() == ErrorKind::Shape
    }

    /// Whether the caller's specification or setting is invalid, so that the call can never succeed.
    pub fn is_spec(&self) -> bool {
        self.kind() == ErrorKind::Spec
    }

    /// Whether parameters do not fit their network.
    pub fn is_weights(&self) -> bool {
        self.kind() == ErrorKind::Weights
    }

    /// Whether something cannot be fused.
    pub fn is_fuse(&self) -> bool {
        self.kind() == ErrorKind::Fuse
    }

    /// Whether a model file fits several architectures, so that the caller must choose one.
    pub fn is_ambiguous(&self) -> bool {
        self.kind() == ErrorKind::Ambiguous
    }
}

impl From<io::Error> for Error {
    /// An error of the operating system, whose place the caller adds with [`within`](Error::within).
    fn from(source: io::Error) -> Self {
        Self::new(ErrorKind::Io, source.to_string()).with_source(source)
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in self.places() {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}", self.0.problem)?;
        let others = &self.0.others;
        let shown = others.len().min(SHOWN - 1);
        for other in &others[..shown] {
            write!(f, "; {other}")?;
        }
        match others.len() - shown {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_composed_from_the_fields() {
        let mismatch = Error::shape("input", expected("3 channels").found(4)).within("model");
        assert_eq!(mismatch.to_string(), "model: input: expected 3 channels, found 4");
        assert_eq!(mismatch.places().collect::<Vec<_>>(), ["model", "input"]);
        assert_eq!((mismatch.expected(), mismatch.found()), (Some("3 channels"), Some("4")));

        let statement = Error::new(ErrorKind::Format, "truncated").with_hint("download it again");
        assert_eq!(statement.to_string(), "truncated (download it again)");
        assert_eq!(
            (statement.place(), statement.expected(), statement.hint()),
            (None, None, Some("download it again"))
        );

        let missing = Error::weights("a.weight", Problem::missing("[2]")).map_place(|name| format!("module.{name}"));
        assert_eq!(missing.to_string(), "module.a.weight: missing, expected [2]");
    }

    #[test]
    fn several_failures_share_a_sentence_and_many_are_counted() {
        let failures = |count| (0..count).map(|i| Error::weights(format!("p{i}"), "wrong")).collect();
        assert!(Error::several(failures(0)).is_none());
        let two = Error::several(failures(2)).unwrap().within("file");
        assert_eq!(two.to_string(), "file: p0: wrong; p1: wrong");
        let six = Error::several(failures(6)).unwrap();
        assert_eq!(six.to_string(), "p0: wrong; p1: wrong; p2: wrong; p3: wrong (and 2 more)");
        assert_eq!((six.place(), six.others().len()), (Some("p0"), 5));
    }

    #[test]
    fn a_missing_file_is_recognised_by_its_source() {
        let error = Error::io("model.pth", io::Error::from(io::ErrorKind::NotFound)).within("run");
        assert!(error.is_io() && error.is_not_found());
        assert!(!Error::io("model.pth", io::Error::from(io::ErrorKind::PermissionDenied)).is_not_found());
        assert!(std::error::Error::source(&error).is_some());
    }
}
