//! The names that a pickle mentions. Nothing is ever called: a name only determines how its arguments are interpreted.

use super::element::Element;

/// A name, by the meaning of its application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// `OrderedDict` and similar classes: a dictionary.
    Mapping,
    /// `torch.Size`: its argument, a tuple.
    Size,
    /// `getattr`, which enumerations and one framework's logs apply to opaque classes; refused for anything else.
    Attribute,
    /// A function that rebuilds a tensor.
    Rebuild(Rebuild),
    /// A storage class.
    Storage(Element),
    /// An element type.
    Dtype(Element),
    /// `torch.Tensor` or `torch.nn.Parameter`.
    TensorClass,
    /// Any other class or function: settings, counters, times, arrays. What it makes is opaque data.
    Opaque {
        /// The module of the class or function.
        module: &'a str,
        /// Its name there.
        name: &'a str,
    },
}

/// A function that rebuilds a tensor, by its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rebuild {
    /// `_rebuild_tensor` and `_v2`: storage, offset, size, stride, and from version 2 on requires_grad, hooks, metadata.
    Tensor,
    /// `_rebuild_tensor_v3`: as version 2, with the element type before the metadata.
    TypedTensor,
    /// `_rebuild_parameter`: tensor, requires_grad, hooks.
    Parameter,
    /// `_rebuild_from_type_v2`: function, class, arguments, state.
    FromType,
    /// Rebuilds a tensor that is not a plain array of elements.
    Unreadable(Unreadable),
}

/// A kind of tensor that is not a plain array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    Quantized,
    Sparse,
    Meta,
    Nested,
    Subclass,
    Device,
    Unknown,
}

/// Functions of `torch._utils`.
const REBUILD: [(&str, Rebuild); 13] = [
    ("_rebuild_tensor", Rebuild::Tensor),
    ("_rebuild_tensor_v2", Rebuild::Tensor),
    ("_rebuild_tensor_v3", Rebuild::TypedTensor),
    ("_rebuild_parameter", Rebuild::Parameter),
    ("_rebuild_parameter_with_state", Rebuild::Parameter),
    ("_rebuild_qtensor", Rebuild::Unreadable(Unreadable::Quantized)),
    ("_rebuild_sparse_tensor", Rebuild::Unreadable(Unreadable::Sparse)),
    ("_rebuild_sparse_csr_tensor", Rebuild::Unreadable(Unreadable::Sparse)),
    ("_rebuild_meta_tensor_no_storage", Rebuild::Unreadable(Unreadable::Meta)),
    ("_rebuild_nested_tensor", Rebuild::Unreadable(Unreadable::Nested)),
    ("_rebuild_wrapper_subclass", Rebuild::Unreadable(Unreadable::Subclass)),
    ("_rebuild_device_tensor_from_numpy", Rebuild::Unreadable(Unreadable::Device)),
    ("_rebuild_device_tensor_from_cpu_tensor", Rebuild::Unreadable(Unreadable::Device)),
];

/// Functions that run code, programs or files of an attacker's choice. No checkpoint needs them, so a file that mentions one is
/// refused, although nothing here would call it.
const UNSAFE: [(&str, &[&str]); 8] = [
    (
        "builtins",
        &[
            "__import__",
            "breakpoint",
            "compile",
            "delattr",
            "eval",
            "exec",
            "globals",
            "input",
            "open",
            "setattr",
            "vars",
        ],
    ),
    ("_io", &["FileIO", "open"]),
    ("io", &["FileIO", "open"]),
    ("numpy", &["load"]),
    ("torch", &["load"]),
    ("torch._utils", &["_import_dotted_name"]),
    ("torch.serialization", &["load"]),
    ("torch.storage", &["_load_from_bytes"]),
];

/// Packages that only give access to the system.
const UNSAFE_PACKAGES: [&str; 23] = [
    "_posixsubprocess",
    "asyncio",
    "code",
    "commands",
    "ctypes",
    "http",
    "importlib",
    "multiprocessing",
    "nt",
    "os",
    "pickle",
    "pip",
    "platform",
    "posix",
    "pty",
    "runpy",
    "shutil",
    "socket",
    "subprocess",
    "sys",
    "timeit",
    "urllib",
    "webbrowser",
];

impl<'a> Name<'a> {
    /// Looks up `name` in `module`; `None` if it is unsafe. Python 2's module names are accepted too.
    pub(super) fn find(module: &'a str, name: &'a str) -> Option<Self> {
        let module = match module {
            "__builtin__" => "builtins",
            "copy_reg" => "copyreg",
            _ => module,
        };
        let package = module.split('.').next().unwrap_or_default();
        let is_unsafe = UNSAFE.iter().any(|(known, names)| *known == module && names.contains(&name));
        if is_unsafe || UNSAFE_PACKAGES.contains(&package) || package == "torch" && module.starts_with("torch.hub") {
            return None;
        }
        let opaque = Self::Opaque { module, name };
        Some(match (module, name) {
            ("collections", "OrderedDict" | "defaultdict") | ("builtins", "dict") => Self::Mapping,
            ("torch", "Size") => Self::Size,
            ("builtins", "getattr") => Self::Attribute,
            ("torch", "Tensor") | ("torch.nn.parameter", "Parameter") => Self::TensorClass,
            ("torch._tensor", "_rebuild_from_type_v2") => Self::Rebuild(Rebuild::FromType),
            ("torch._utils", _) => match REBUILD.iter().find(|(known, _)| *known == name) {
                Some(&(_, rebuild)) => Self::Rebuild(rebuild),
                None if name.starts_with("_rebuild") => Self::Rebuild(Rebuild::Unreadable(Unreadable::Unknown)),
                None => opaque,
            },
            ("torch", _) if !name.ends_with("Storage") => Element::of_dtype(name).map_or(opaque, Self::Dtype),
            ("torch" | "torch.cuda" | "torch.storage", _) => Element::of_storage(name).map_or(opaque, Self::Storage),
            _ => opaque,
        })
    }
}

impl Unreadable {
    /// The tensor as errors describe it.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Quantized => "a quantized tensor",
            Self::Sparse => "a sparse tensor",
            Self::Meta => "a meta tensor, which has no elements",
            Self::Nested => "a nested tensor",
            Self::Subclass => "a tensor of a class of its own",
            Self::Unknown => "a tensor of an unknown kind",
            Self::Device => "a tensor that was written through NumPy for another device",
        }
    }
}
