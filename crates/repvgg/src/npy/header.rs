//! The header of a `.npy` file: `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.

use std::io::{self, Read};

use crate::error::{Problem, expected};
use crate::{Error, ErrorKind, Result, element_count};

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Prefix and header together fill a multiple of this many bytes, so that the elements are aligned in a mapped file.
const ALIGNMENT: usize = 64;

/// The most bytes of a header: far more than an array of numbers needs. Only structured types have long headers.
const MAX_LENGTH: usize = 1 << 16;

/// The type of the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F32,
    F64,
}

impl Element {
    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// The description of an array in its file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) element: Element,
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<usize>,
}

impl Header {
    /// Reads the prefix and the header, and leaves `file` at the first element.
    pub(super) fn read(file: &mut impl Read) -> Result<Self> {
        let mut prefix = [0; 8];
        file.read_exact(&mut prefix).map_err(truncated)?;
        let [magic @ .., major, minor] = prefix;
        if magic != *MAGIC {
            return Err(invalid(expected("a .npy file").found("other magic bytes")));
        }
        let length = match major {
            1 => u16::from_le_bytes(array(file)?) as usize,
            2 | 3 => u32::from_le_bytes(array(file)?) as usize,
            _ => return Err(invalid(expected(".npy version 1, 2 or 3").found(format_args!("{major}.{minor}")))),
        };
        if length > MAX_LENGTH {
            return Err(invalid(expected(format_args!("a header of at most {MAX_LENGTH} bytes")).found(length)));
        }
        let mut text = vec![0; length];
        file.read_exact(&mut text).map_err(truncated)?;
        Parser { rest: &text }.header().map_err(invalid)
    }

    /// The bytes of all elements; [`Header::read`] has checked that the product does not overflow.
    pub(super) fn byte_count(&self) -> usize {
        self.shape.iter().product::<usize>() * self.element.size()
    }
}

/// The prefix and header (version 1) of an `f4` array of `shape` in C order.
pub(super) fn encode(shape: &[usize]) -> Vec<u8> {
    let extents = match shape {
        [only] => format!("{only},"),
        _ => shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    };
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({extents}), }}");
    let prefix = MAGIC.len() + 2 + 2;
    let total = (prefix + text.len() + 1).next_multiple_of(ALIGNMENT);
    let length = u16::try_from(total - prefix).expect("a tensor has few enough axes for a short header");
    let mut bytes = [&MAGIC[..], &[1, 0], &length.to_le_bytes(), text.as_bytes()].concat();
    bytes.resize(total - 1, b' ');
    bytes.push(b'\n');
    bytes
}

fn truncated(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::new(ErrorKind::Format, "ends within the .npy header"),
        _ => error.into(),
    }
}

fn invalid(problem: Problem) -> Error {
    Error::new(ErrorKind::Format, problem)
}

fn array<const N: usize>(file: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map_err(truncated)?;
    Ok(bytes)
}

/// Parses the dictionary: the three keys in any order, each exactly once.
struct Parser<'a> {
    rest: &'a [u8],
}

impl<'a> Parser<'a> {
    fn header(mut self) -> Result<Header, Problem> {
        let (mut element, mut fortran_order, mut shape) = (None, None, None);
        self.expect(b'{')?;
        while !self.accept(b'}') {
            let key = self.string()?;
            self.expect(b':')?;
            let repeated = match key {
                "descr" => element.replace(self.element()?).is_some(),
                "fortran_order" => fortran_order.replace(self.boolean()?).is_some(),
                "shape" => shape.replace(self.shape()?).is_some(),
                _ => return Err(expected("the keys descr, fortran_order and shape").found(format_args!("{key:?}"))),
            };
            if repeated {
                return Err(expected("each key once").found(format_args!("{key:?} again")));
            }
            if !self.accept(b',') {
                self.expect(b'}')?;
                break;
            }
        }
        self.skip_space();
        let (Some(element), Some(fortran_order), Some(shape), []) = (element, fortran_order, shape, self.rest) else {
            return Err("expected a header with exactly the keys descr, fortran_order and shape".into());
        };
        let bytes = element_count(&shape).and_then(|count| count.checked_mul(element.size()));
        // No allocation is larger than `isize::MAX` bytes.
        match bytes {
            Some(bytes) if bytes <= isize::MAX as usize => Ok(Header { element, fortran_order, shape }),
            _ => Err(expected("an array that fits into memory").found(format_args!("shape {shape:?}"))),
        }
    }

    fn element(&mut self) -> Result<Element, Problem> {
        match self.string()? {
            "<f4" => Ok(Element::F32),
            "<f8" => Ok(Element::F64),
            other => {
                Err(expected("elements of type '<f4' or '<f8'").found(format_args!("'{}'", other.escape_default())))
            }
        }
    }

    fn boolean(&mut self) -> Result<bool, Problem> {
        match self.take_while(u8::is_ascii_alphabetic) {
            "True" => Ok(true),
            "False" => Ok(false),
            other => Err(expected("fortran_order True or False").found(format_args!("{other:?}"))),
        }
    }

    fn shape(&mut self) -> Result<Vec<usize>, Problem> {
        let mut shape = Vec::new();
        self.expect(b'(')?;
        while !self.accept(b')') {
            let digits = self.take_while(u8::is_ascii_digit);
            shape.push(digits.parse().map_err(|_| expected("an extent in shape").found(format_args!("{digits:?}")))?);
            if !self.accept(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(shape)
    }

    /// A quoted string without escapes; none of the accepted values needs them.
    fn string(&mut self) -> Result<&'a str, Problem> {
        let quote = if self.accept(b'"') { b'"' } else { b'\'' };
        if quote == b'\'' {
            self.expect(quote)?;
        }
        let text = self.take_while(|&byte| byte != quote && byte.is_ascii_graphic());
        self.expect(quote)?;
        Ok(text)
    }

    fn take_while(&mut self, accepts: impl Fn(&u8) -> bool) -> &'a str {
        self.skip_space();
        let length = self.rest.iter().take_while(|&byte| byte.is_ascii() && accepts(byte)).count();
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        std::str::from_utf8(text).expect("ASCII is UTF-8")
    }

    fn accept(&mut self, byte: u8) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(&[byte]);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, byte: u8) -> Result<(), Problem> {
        if self.accept(byte) {
            return Ok(());
        }
        let found = self.rest.first().map_or("the end".to_owned(), |&byte| format!("'{}'", byte.escape_ascii()));
        Err(expected(format_args!("'{}' in the .npy header", byte as char)).found(found))
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }
}
