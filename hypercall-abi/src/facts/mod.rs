//! What this crate says about Xen's interface, in a form that can be compared
//! with Xen's own headers: `cargo lab abi` does so.
//!
//! The macros here define items and write them down at once, so that nothing
//! can be defined and not be compared.

mod calls;
mod macros;
mod modules;

pub use calls::{CALLS, Call, Caller};
pub(crate) use macros::{c_name, constants, flags, number, open_enum, structs, texts};
pub use modules::MODULES;

/// A number: its name in the headers, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant {
    /// Its name in the headers.
    pub c_name: &'static str,
    /// Its value.
    pub value: i128,
}

/// A text: its name in the headers, and its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its name in the headers.
    pub c_name: &'static str,
    /// Its content.
    pub value: &'static str,
}

/// A field of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name here, which is that of the headers; `_pad` fields have none
    /// there.
    pub name: &'static str,
    /// Where it starts.
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
}

/// A structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Struct {
    /// Its name in the headers, without `struct`; a dot leads to an unnamed
    /// structure within another.
    pub c_name: &'static str,
    /// Its name here.
    pub rust_name: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// Its fields.
    pub fields: &'static [Field],
}

/// What one module of this crate says.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// Its path.
    pub path: &'static str,
    /// Its structures.
    pub structs: &'static [&'static [Struct]],
    /// Its numbers.
    pub constants: &'static [&'static [Constant]],
    /// Its texts.
    pub texts: &'static [&'static [Text]],
}
