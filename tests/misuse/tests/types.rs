//! Each file of `cases` does not compile, for the reason that is written beside it
//! (`TRYBUILD=overwrite` writes the reasons anew, after a look at them).

#[test]
#[cfg_attr(miri, ignore = "a compiler is run")]
fn misuse_does_not_compile() {
    trybuild::TestCases::new().compile_fail("cases/*.rs");
}
