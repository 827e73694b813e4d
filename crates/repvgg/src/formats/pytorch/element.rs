//! The element types of PyTorch's tensors.

/// A class of element types, by their decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F64,
    F32,
    F16,
    Bf16,
    /// Integers, booleans and 8-bit floats: accounted for, never decoded.
    Other,
    Complex,
    Quantized,
}

/// A row of the table of element types.
struct Row {
    /// PyTorch's name for it.
    dtype: &'static str,
    /// Its storage class; empty if it has none.
    storage: &'static str,
    /// Bytes per element.
    size: usize,
    kind: Kind,
}

const fn row(dtype: &'static str, storage: &'static str, size: usize, kind: Kind) -> Row {
    Row { dtype, storage, size, kind }
}

const ROWS: [Row; 25] = [
    row("float64", "DoubleStorage", 8, Kind::F64),
    row("float32", "FloatStorage", 4, Kind::F32),
    row("float16", "HalfStorage", 2, Kind::F16),
    row("bfloat16", "BFloat16Storage", 2, Kind::Bf16),
    row("int64", "LongStorage", 8, Kind::Other),
    row("int32", "IntStorage", 4, Kind::Other),
    row("int16", "ShortStorage", 2, Kind::Other),
    row("int8", "CharStorage", 1, Kind::Other),
    row("uint8", "ByteStorage", 1, Kind::Other),
    row("bool", "BoolStorage", 1, Kind::Other),
    row("uint16", "", 2, Kind::Other),
    row("uint32", "", 4, Kind::Other),
    row("uint64", "", 8, Kind::Other),
    row("float8_e4m3fn", "", 1, Kind::Other),
    row("float8_e4m3fnuz", "", 1, Kind::Other),
    row("float8_e5m2", "", 1, Kind::Other),
    row("float8_e5m2fnuz", "", 1, Kind::Other),
    row("float8_e8m0fnu", "", 1, Kind::Other),
    row("complex32", "", 4, Kind::Complex),
    row("complex64", "ComplexFloatStorage", 8, Kind::Complex),
    row("complex128", "ComplexDoubleStorage", 16, Kind::Complex),
    row("qint8", "QInt8Storage", 1, Kind::Quantized),
    row("quint8", "QUInt8Storage", 1, Kind::Quantized),
    row("qint32", "QInt32Storage", 4, Kind::Quantized),
    row("quint4x2", "QUInt4x2Storage", 1, Kind::Quantized),
];

/// An element type, as an index into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element(u8);

impl Element {
    /// The type that PyTorch calls `torch.<name>`.
    pub(super) fn of_dtype(name: &str) -> Option<Self> {
        Self::find(|row| row.dtype == name)
    }

    /// The element type of the storage class `name`; untyped storages hold bytes.
    pub(super) fn of_storage(name: &str) -> Option<Self> {
        match name {
            "" => None,
            "UntypedStorage" | "_UntypedStorage" => Self::of_dtype("uint8"),
            _ => Self::find(|row| row.storage == name),
        }
    }

    fn find(fits: impl Fn(&Row) -> bool) -> Option<Self> {
        ROWS.iter().position(fits).map(|row| Self(row as u8))
    }

    /// The type's name without `torch.`.
    pub(super) fn name(self) -> &'static str {
        ROWS[usize::from(self.0)].dtype
    }

    /// Bytes per element.
    pub(super) fn size(self) -> usize {
        ROWS[usize::from(self.0)].size
    }

    pub(super) fn kind(self) -> Kind {
        ROWS[usize::from(self.0)].kind
    }
}
