//! An interpreter of Python's pickle format, a stack machine. It builds nothing but plain data.
//!
//! Protocols 1 to 5 are supported. Protocol 0 is not: PyTorch writes it, but loses the references to storages and cannot read
//! the result itself. The machine creates no objects and calls nothing: applying a [`Name`] to arguments only records
//! both. Every value is stored once and referred to by its [`Id`], so sharing and cycles are free. Two counters limit what a
//! pickle can allocate.

mod apply;
mod scalars;

use std::collections::HashMap;

use super::input::Input;
use super::value::{Id, PickleValue, PickleValues};
use crate::error::expected;
use crate::{Error, Result};

/// The most values, items and memo entries; a checkpoint of a thousand tensors with its optimizer has about 10⁵.
const VALUE_LIMIT: usize = 1 << 22;

/// The most instructions.
const INSTRUCTION_LIMIT: usize = 1 << 24;

/// A pickle that has been read.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) values: PickleValues<'a>,
    pub(super) root: Id,
}

/// Reads one pickle from the front of `bytes`. Returns it and the bytes that follow.
///
/// # Errors
/// When it is truncated, uses an instruction that no checkpoint needs, mentions an unsafe name, or holds too much.
pub(super) fn read(bytes: &[u8]) -> Result<(Pickle<'_>, &[u8])> {
    let mut machine = Machine {
        input: Input(bytes),
        values: PickleValues::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        used: 0,
    };
    for _ in 0..INSTRUCTION_LIMIT {
        let instruction = machine.input.byte()?;
        if instruction == b'.' {
            let root = machine.pop()?;
            return Ok((Pickle { values: machine.values, root }, machine.input.0));
        }
        machine.step(instruction)?;
    }
    Err(Error::format("pickle", expected(format_args!("at most {INSTRUCTION_LIMIT} instructions")).found("more")))
}

struct Machine<'a> {
    input: Input<'a>,
    values: PickleValues<'a>,
    stack: Vec<Id>,
    /// Heights of the stack; values below the last mark cannot be popped.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Values, items and memo entries so far.
    used: usize,
}

impl<'a> Machine<'a> {
    fn step(&mut self, instruction: u8) -> Result<()> {
        match instruction {
            // The protocol and the frame change nothing in what follows.
            0x80 => self.protocol()?,
            0x95 => drop(self.input.array::<8>()?),
            // The stack.
            b'(' => {
                self.charge(1)?;
                self.marks.push(self.stack.len());
            }
            b'0' => self.discard()?,
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            // Plain values.
            b'N' | 0x88 | 0x89 => self.stack.push(PickleValues::PLAIN),
            b'G' => self.plain(8)?,
            b'C' => self.sized::<1>(Self::plain)?,
            b'B' => self.sized::<4>(Self::plain)?,
            0x8e | 0x96 => self.sized::<8>(Self::plain)?,
            // Integers.
            b'K' => self.little_endian(1)?,
            b'M' => self.little_endian(2)?,
            b'J' => {
                let number = i32::from_le_bytes(self.input.array()?);
                self.push(PickleValue::Int(number.into()))?;
            }
            0x8a => self.sized::<1>(Self::long)?,
            0x8b => self.sized::<4>(Self::long)?,
            b'I' | b'L' => self.decimal()?,
            // Text; Python 2 stores it in byte strings.
            b'U' | 0x8c => self.sized::<1>(Self::text)?,
            b'T' | b'X' => self.sized::<4>(Self::text)?,
            0x8d => self.sized::<8>(Self::text)?,
            // Containers.
            b')' => self.stack.push(PickleValues::EMPTY),
            0x85..=0x87 => self.short_tuple(usize::from(instruction - 0x84))?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(PickleValue::Tuple(items))?;
            }
            b']' => self.push(PickleValue::List(Vec::new()))?,
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(PickleValue::List(items))?;
            }
            b'}' => self.push(PickleValue::Dict(Vec::new()))?,
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(PickleValue::Dict(Vec::new()))?;
                self.set(&items)?;
            }
            0x8f => self.push(PickleValue::Opaque(Vec::new()))?,
            0x91 => {
                let parts = self.pop_to_mark()?;
                self.push(PickleValue::Opaque(parts))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.append(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set(&items)?;
            }
            // The memo.
            b'h' => self.recall::<1>()?,
            b'j' => self.recall::<4>()?,
            b'q' => self.remember::<1>()?,
            b'r' => self.remember::<4>()?,
            0x94 => {
                let place = self.memo.len() as u32;
                self.remember_at(place)?;
            }
            // Names and their application.
            b'c' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                self.name(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (module, name) = self.values.text(module).zip(self.values.text(name)).ok_or_else(|| {
                    Error::format("pickle", expected("a module and a name in text").found("other values"))
                })?;
                self.name(module, name)?;
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.apply(function, arguments)?;
            }
            0x92 => {
                let (keywords, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.apply(class, arguments)?;
                self.add_part(keywords)?;
            }
            b'b' => {
                let state = self.pop()?;
                self.build(state)?;
            }
            b'Q' => {
                let reference = self.pop()?;
                self.push(PickleValue::Persistent(reference))?;
            }
            b'F' | b'P' | b'S' | b'V' | b'g' | b'i' | b'o' | b'p' => {
                return Err(Error::format(
                    "pickle",
                    expected("protocol 1 to 5").found("protocol 0, in which PyTorch loses its tensors"),
                ));
            }
            other => {
                return Err(Error::format(
                    "pickle",
                    expected("an instruction").found(format_args!("the byte {other:#04x}")),
                ));
            }
        }
        Ok(())
    }

    fn protocol(&mut self) -> Result<()> {
        match self.input.byte()? {
            0..=5 => Ok(()),
            other => Err(Error::format("pickle", expected("protocol 1 to 5").found(other))),
        }
    }

    /// Charges for `count` more values, items or memo entries.
    fn charge(&mut self, count: usize) -> Result<()> {
        self.used = self.used.saturating_add(count);
        if self.used > VALUE_LIMIT {
            return Err(Error::format("pickle", expected(format_args!("at most {VALUE_LIMIT} values")).found("more")));
        }
        Ok(())
    }

    fn push(&mut self, value: PickleValue<'a>) -> Result<()> {
        self.charge(1)?;
        let id = self.values.add(value);
        self.stack.push(id);
        Ok(())
    }

    /// The height of the stack at the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id> {
        match self.stack.last() {
            Some(&top) if self.stack.len() > self.floor() => Ok(top),
            _ => Err(Error::format("pickle", expected("a value on the stack").found("none"))),
        }
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// Drops the top of the stack, a value or a mark.
    fn discard(&mut self) -> Result<()> {
        if self.stack.len() == self.floor() && self.marks.pop().is_some() {
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark =
            self.marks.pop().ok_or_else(|| Error::format("pickle", expected("a mark on the stack").found("none")))?;
        let items = self.stack.split_off(mark);
        self.charge(items.len())?;
        Ok(items)
    }

    fn short_tuple(&mut self, count: usize) -> Result<()> {
        let first = self.stack.len().checked_sub(count).filter(|&first| first >= self.floor());
        let first = first.ok_or_else(|| Error::format("pickle", expected("the items of a tuple").found("too few")))?;
        let items = self.stack.split_off(first);
        self.charge(items.len())?;
        self.push(PickleValue::Tuple(items))
    }

    /// Adds items to the list or set on top of the stack.
    fn append(&mut self, items: &[Id]) -> Result<()> {
        self.charge(items.len())?;
        let top = self.top()?;
        match self.values.get_mut(top) {
            PickleValue::List(list) | PickleValue::Object { parts: list, .. } | PickleValue::Opaque(list) => {
                list.extend_from_slice(items);
            }
            other => {
                let found = other.describe();
                return Err(Error::format("pickle", expected("a list to add to").found(found)));
            }
        }
        Ok(())
    }

    /// Inserts alternating keys and values into the dictionary on top of the stack.
    fn set(&mut self, items: &[Id]) -> Result<()> {
        self.charge(items.len())?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Error::format("pickle", expected("keys and values in turn").found("a key without a value")));
        }
        let top = self.top()?;
        match self.values.get_mut(top) {
            PickleValue::Dict(entries) => entries.extend(pairs.iter().map(|&[key, value]| (key, value))),
            PickleValue::Object { parts, .. } | PickleValue::Opaque(parts) => parts.extend_from_slice(items),
            other => {
                let found = other.describe();
                return Err(Error::format("pickle", expected("a dictionary to set in").found(found)));
            }
        }
        Ok(())
    }

    fn recall<const N: usize>(&mut self) -> Result<()> {
        let place = self.place::<N>()?;
        let id = self.memo.get(&place);
        let id =
            id.ok_or_else(|| Error::format("pickle", expected(format_args!("a value at memo {place}")).found("none")))?;
        self.stack.push(*id);
        Ok(())
    }

    fn remember<const N: usize>(&mut self) -> Result<()> {
        let place = self.place::<N>()?;
        self.remember_at(place)
    }

    fn remember_at(&mut self, place: u32) -> Result<()> {
        self.charge(1)?;
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn place<const N: usize>(&mut self) -> Result<u32> {
        let mut place = [0; 4];
        place[..N].copy_from_slice(&self.input.array::<N>()?);
        Ok(u32::from_le_bytes(place))
    }
}

#[cfg(test)]
mod tests;
