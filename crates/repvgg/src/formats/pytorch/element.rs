//! The element types of PyTorch's tensors.

/// How the bytes of an element are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F64,
    F32,
    F16,
    Bf16,
    /// Whole numbers, truth values and eight-bit floats: counted, never computed with.
    Other,
    Complex,
    Quantized,
}

/// Type of the elements, class of their storage where there is one of that type, bytes of an element, and what they are.
struct Row(&'static str, &'static str, usize, Kind);

const ROWS: [Row; 25] = [
    Row("float64", "DoubleStorage", 8, Kind::F64),
    Row("float32", "FloatStorage", 4, Kind::F32),
    Row("float16", "HalfStorage", 2, Kind::F16),
    Row("bfloat16", "BFloat16Storage", 2, Kind::Bf16),
    Row("int64", "LongStorage", 8, Kind::Other),
    Row("int32", "IntStorage", 4, Kind::Other),
    Row("int16", "ShortStorage", 2, Kind::Other),
    Row("int8", "CharStorage", 1, Kind::Other),
    Row("uint8", "ByteStorage", 1, Kind::Other),
    Row("bool", "BoolStorage", 1, Kind::Other),
    Row("uint16", "", 2, Kind::Other),
    Row("uint32", "", 4, Kind::Other),
    Row("uint64", "", 8, Kind::Other),
    Row("float8_e4m3fn", "", 1, Kind::Other),
    Row("float8_e4m3fnuz", "", 1, Kind::Other),
    Row("float8_e5m2", "", 1, Kind::Other),
    Row("float8_e5m2fnuz", "", 1, Kind::Other),
    Row("float8_e8m0fnu", "", 1, Kind::Other),
    Row("complex32", "", 4, Kind::Complex),
    Row("complex64", "ComplexFloatStorage", 8, Kind::Complex),
    Row("complex128", "ComplexDoubleStorage", 16, Kind::Complex),
    Row("qint8", "QInt8Storage", 1, Kind::Quantized),
    Row("quint8", "QUInt8Storage", 1, Kind::Quantized),
    Row("qint32", "QInt32Storage", 4, Kind::Quantized),
    Row("quint4x2", "QUInt4x2Storage", 1, Kind::Quantized),
];

/// A type of elements: a row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element(u8);

impl Element {
    /// The type that PyTorch calls `torch.<name>`.
    pub(super) fn of_dtype(name: &str) -> Option<Self> {
        Self::find(|row| row.0 == name)
    }

    /// The type of what the storage class `name` holds; a storage without a type holds bytes.
    pub(super) fn of_storage(name: &str) -> Option<Self> {
        match name {
            "" => None,
            "UntypedStorage" | "_UntypedStorage" => Self::of_dtype("uint8"),
            _ => Self::find(|row| row.1 == name),
        }
    }

    fn find(fits: impl Fn(&Row) -> bool) -> Option<Self> {
        ROWS.iter().position(fits).map(|row| Self(row as u8))
    }

    /// The type's name without `torch.`.
    pub(super) fn name(self) -> &'static str {
        ROWS[usize::from(self.0)].0
    }

    /// The bytes that one element takes.
    pub(super) fn size(self) -> usize {
        ROWS[usize::from(self.0)].2
    }

    pub(super) fn kind(self) -> Kind {
        ROWS[usize::from(self.0)].3
    }
}
