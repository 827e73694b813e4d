//! Custom networks from a short TOML file.

use std::path::Path;

use super::family::one_line;
use super::{BLOCKS, Specification};
use crate::error::expected;
use crate::file::read_bounded;
use crate::{Error, Result};

/// The largest accepted specification file, in bytes.
const LIMIT: u64 = 1 << 20;

impl Specification {
    /// Opens the architecture that `name` refers to: a published one by [name](Self::named), or a specification file
    /// (`*.toml`).
    ///
    /// ```
    /// use repvgg::Specification;
    ///
    /// assert_eq!(Specification::open("repvgg-a0")?.classes(), 1000);
    /// let error = Specification::open("resnet").unwrap_err();
    /// assert!(error.to_string().contains("the nearest names are resnet-"));
    /// # Ok::<(), repvgg::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the architecture is unknown, or as [`from_spec_file`](Self::from_spec_file).
    pub fn open(name: &str) -> Result<Self> {
        if let Some(architecture) = Self::named(name) {
            return Ok(architecture);
        }
        if Path::new(name).extension().is_some_and(|extension| extension == "toml") {
            return Self::from_spec_file(Path::new(name));
        }
        if let Some((_, block)) = name.split_once(':').filter(|(network, _)| Self::named(network).is_some()) {
            let known = BLOCKS.iter().map(|block| block.name).collect::<Vec<_>>().join(", ");
            let problem = expected(format_args!("a RepVGG with a block of {known}")).found(format_args!("{block:?}"));
            return Err(Error::spec("model", problem));
        }
        let nearest = Self::nearest_names(&name.chars().take(64).collect::<String>()).join(", ");
        let problem = expected("an architecture's name or a specification file (*.toml)").found(name);
        Err(Error::spec("model", problem.with_hint(format_args!("the nearest names are {nearest}"))))
    }

    /// Reads a specification file. `family` defaults to `repvgg` and `name` to the file's stem. Other families have fields of
    /// their own, and `size`, the side of their images in pixels.
    ///
    /// ```toml
    /// depths = [1, 2, 4, 1]             # blocks in stages 1 to 4
    /// width = [0.5, 0.5, 0.5, 0.5]      # multipliers of 64, 128, 256, 512 channels
    /// strides = [1, 1, 2, 2, 2]         # of stages 0 to 4
    /// classes = 10
    /// ```
    ///
    /// # Errors
    /// When the file cannot be read, is not TOML, has an unknown field, or describes no valid network.
    pub fn from_spec_file(path: &Path) -> Result<Self> {
        let place = || path.display();
        let text = String::from_utf8(read_bounded(path, LIMIT)?)
            .map_err(|_| Error::spec(place(), expected("TOML").found("bytes that are not UTF-8")))?;
        let stem = path.file_stem().map_or_else(|| "custom".into(), |stem| stem.to_string_lossy());
        Self::from_toml(&text, &stem).map_err(|error| error.within(place()))
    }

    /// Reads a specification from TOML text; `name` is the default for its name.
    ///
    /// # Errors
    /// As [`from_spec_file`](Self::from_spec_file).
    pub fn from_toml(text: &str, name: &str) -> Result<Self> {
        let line = |error: &toml::de::Error| match error.span() {
            Some(span) => format!("line {}", text[..span.start.min(text.len())].matches('\n').count() + 1),
            None => "specification".to_owned(),
        };
        let mut table: toml::Table =
            toml::from_str(text).map_err(|error| Error::spec(line(&error), one_line(error.message())))?;
        table.entry("family").or_insert_with(|| "repvgg".into());
        table.entry("name").or_insert_with(|| name.into());
        let family = table["family"].as_str().unwrap_or_default();
        if !Self::families().any(|(known, _)| known == family) {
            let known = Self::families().map(|(known, _)| known).collect::<Vec<_>>().join(", ");
            return Err(Error::spec("family", expected(format_args!("one of {known}")).found(&table["family"])));
        }
        let specification: Self = table
            .try_into()
            .map_err(|error: toml::de::Error| Error::spec("specification", one_line(error.message())))?;
        let graph = specification.training_graph()?;
        graph.check()?;
        if specification.repvgg().is_none() {
            // Reports layers that do not fit together now, not when images arrive.
            graph.shapes([specification.image_size(); 2])?;
        }
        Ok(specification)
    }
}
