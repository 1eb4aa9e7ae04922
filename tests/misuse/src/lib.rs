//! What safe code might try, and the types forbid: each file of `cases` does not compile,
//! for the reason that is written beside it. `tests/types.rs` compiles them.
