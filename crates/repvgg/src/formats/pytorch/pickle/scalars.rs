//! Values that contain no others.

use super::super::value::{PickleValue, PickleValues};
use super::Machine;
use crate::error::expected;
use crate::{Error, Result};

impl Machine<'_> {
    /// Reads a value that is preceded by its size in `N` bytes.
    pub(super) fn sized<const N: usize>(&mut self, value: fn(&mut Self, u64) -> Result<()>) -> Result<()> {
        let mut size = [0; 8];
        size[..N].copy_from_slice(&self.input.array::<N>()?);
        value(self, u64::from_le_bytes(size))
    }

    pub(super) fn plain(&mut self, size: u64) -> Result<()> {
        self.input.take(size)?;
        self.stack.push(PickleValues::PLAIN);
        Ok(())
    }

    pub(super) fn text(&mut self, size: u64) -> Result<()> {
        let bytes = self.input.take(size)?;
        self.push(std::str::from_utf8(bytes).map_or(PickleValue::Plain, PickleValue::Text))
    }

    pub(super) fn little_endian(&mut self, size: u64) -> Result<()> {
        let number = self.input.take(size)?.iter().rev().fold(0, |number, &byte| number << 8 | i64::from(byte));
        self.push(PickleValue::Int(number))
    }

    /// Reads an integer in two's complement.
    pub(super) fn long(&mut self, size: u64) -> Result<()> {
        let bytes = self.input.take(size)?;
        let Some(&last) = bytes.last() else { return self.push(PickleValue::Int(0)) };
        if bytes.len() > 8 {
            self.stack.push(PickleValues::PLAIN);
            return Ok(());
        }
        let sign = i64::from(last as i8 >> 7);
        self.push(PickleValue::Int(bytes.iter().rev().fold(sign, |number, &byte| number << 8 | i64::from(byte))))
    }

    /// Reads a decimal integer. `00` and `01` are booleans, and `L` ends a long integer.
    pub(super) fn decimal(&mut self) -> Result<()> {
        let line = self.input.line()?;
        let number = line.strip_suffix('L').unwrap_or(line);
        let digits = number.strip_prefix('-').unwrap_or(number);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::format("pickle", expected("a number in decimal").found("other text")));
        }
        match number.parse() {
            Ok(value) if !matches!(number, "00" | "01") => self.push(PickleValue::Int(value)),
            _ => {
                self.stack.push(PickleValues::PLAIN);
                Ok(())
            }
        }
    }
}
