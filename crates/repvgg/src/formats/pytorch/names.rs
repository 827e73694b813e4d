//! The names that a pickle may mention. Nothing is ever called: a name only determines how its arguments are interpreted.

use super::element::Element;

/// An allowed name, by the meaning of its application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// `OrderedDict` and similar classes: a dictionary.
    Mapping,
    /// `torch.Size`: its argument, a tuple.
    Size,
    /// `getattr`, which one training framework's logs apply to a class in [`DATA`]; refused for anything else.
    Attribute,
    /// A function that rebuilds a tensor.
    Rebuild(Rebuild),
    /// A storage class.
    Storage(Element),
    /// An element type.
    Dtype(Element),
    /// `torch.Tensor` or `torch.nn.Parameter`.
    TensorClass,
    /// Any other plain data, which stays opaque.
    Data,
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

/// Modules and their allowed names for plain data: epochs, losses, settings, arrays and times stored with the weights.
const DATA: [(&str, &[&str]); 24] = [
    ("_codecs", &["encode"]),
    ("argparse", &["Namespace"]),
    (
        "builtins",
        &[
            "bool",
            "bytearray",
            "bytes",
            "complex",
            "float",
            "frozenset",
            "int",
            "list",
            "long",
            "object",
            "range",
            "set",
            "slice",
            "str",
            "tuple",
            "unicode",
            "xrange",
        ],
    ),
    ("collections", &["Counter", "deque"]),
    ("copyreg", &["_reconstructor"]),
    ("datetime", &["date", "datetime", "time", "timedelta", "timezone"]),
    ("decimal", &["Decimal"]),
    ("fractions", &["Fraction"]),
    ("mmengine.logging.history_buffer", &["HistoryBuffer"]),
    ("numpy", &["dtype", "ndarray"]),
    ("numpy", &["bool_", "float16", "float32", "float64", "int16", "int32", "int64", "int8", "uint8"]),
    ("numpy._core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy._core.numeric", &["_frombuffer"]),
    ("numpy.core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy.core.numeric", &["_frombuffer"]),
    ("pathlib", &PATHS),
    ("pathlib._local", &PATHS),
    ("torch", &["device"]),
    ("torch", &["per_channel_affine", "per_channel_affine_float_qparams", "per_channel_symmetric"]),
    ("torch", &["per_tensor_affine", "per_tensor_symmetric"]),
    ("torch.serialization", &["_get_layout"]),
    ("torch.storage", &["TypedStorage", "_TypedStorage"]),
    ("types", &["SimpleNamespace"]),
    ("uuid", &["UUID"]),
];

const PATHS: [&str; 6] = ["Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"];

impl Name {
    /// Looks up `name` in `module`; `None` if it is not allowed. Python 2's module names are accepted too.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        let module = match module {
            "__builtin__" => "builtins",
            "copy_reg" => "copyreg",
            _ => module,
        };
        Some(match (module, name) {
            ("collections", "OrderedDict" | "defaultdict") | ("builtins", "dict") => Self::Mapping,
            ("torch", "Size") => Self::Size,
            ("builtins", "getattr") => Self::Attribute,
            ("torch", "Tensor") | ("torch.nn.parameter", "Parameter") => Self::TensorClass,
            ("torch._tensor", "_rebuild_from_type_v2") => Self::Rebuild(Rebuild::FromType),
            ("torch._utils", _) => Self::Rebuild(REBUILD.iter().find(|(known, _)| *known == name)?.1),
            _ if DATA.iter().any(|(known, names)| *known == module && names.contains(&name)) => Self::Data,
            ("torch", _) if !name.ends_with("Storage") => Self::Dtype(Element::of_dtype(name)?),
            ("torch" | "torch.cuda" | "torch.storage", _) => Self::Storage(Element::of_storage(name)?),
            _ => return None,
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
            Self::Device => "a tensor that was written through NumPy for another device",
        }
    }
}
