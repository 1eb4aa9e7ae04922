//! Calls of `xen_version`.

use hypercall_abi::{
    Errno, HypercallNr,
    version::{self, LongText},
};

use super::{Done, Fails, Row, both, check, done, raw};

pub(super) const ROWS: &[Row] = &[
    both(
        "XENVER_version",
        "",
        |p| check(version::version(p)?.major >= 4),
        Done,
    ),
    both(
        "XENVER_extraversion",
        "",
        |p| done(version::extraversion(p)),
        Done,
    ),
    both(
        "XENVER_extraversion",
        "null",
        |p| raw(p, HypercallNr::XEN_VERSION, 1, 0),
        Fails(&[Errno::EFAULT]),
    ),
    both(
        "XENVER_compile_info",
        "",
        |p| done(version::compile_info(p)),
        Done,
    ),
    both(
        "XENVER_capabilities",
        "",
        |p| check(version::capabilities(p)?.as_str().contains("xen-3.0")),
        Done,
    ),
    both(
        "XENVER_changeset",
        "",
        |p| done(version::changeset(p)),
        Done,
    ),
    both(
        "XENVER_platform_parameters",
        "",
        |p| done(version::platform_parameters(p)),
        Done,
    ),
    both(
        "XENVER_get_features",
        "0",
        |p| check(!version::features(p)?.is_empty()),
        Done,
    ),
    both(
        "XENVER_get_features",
        "99",
        |p| done(version::feature_word(p, 99)),
        Fails(&[Errno::EINVAL]),
    ),
    both(
        "XENVER_pagesize",
        "",
        |p| check(version::page_size(p)? == 4096),
        Done,
    ),
    both(
        "XENVER_guest_handle",
        "",
        |p| {
            let handle = version::guest_handle(p)?;
            check(handle != Default::default() && version::guest_handle(p)? == handle)
        },
        Done,
    ),
    both(
        "XENVER_commandline",
        "",
        |p| done(version::command_line(p)),
        Done,
    ),
    both(
        "XENVER_build_id",
        "",
        |p| done(version::long_text(p, LongText::BuildId, &mut [0; 64])),
        Fails(&[Errno::EPERM]),
    ),
    both(
        "XENVER_extraversion2",
        "",
        |p| check(version::long_text(p, LongText::Extraversion, &mut [0; 64])?.len() < 100),
        Done,
    )
    .since(20),
    both(
        "XENVER_extraversion2",
        "no room",
        |p| done(version::long_text(p, LongText::Capabilities, &mut [0; 1])),
        Fails(&[Errno::ENOBUFS]),
    )
    .since(20),
    both(
        "XENVER_capabilities2",
        "",
        |p| {
            check(
                version::long_text(p, LongText::Capabilities, &mut [0; 300])?
                    .starts_with(b"xen-3.0"),
            )
        },
        Done,
    )
    .since(20),
    both(
        "XENVER_changeset2",
        "",
        |p| done(version::long_text(p, LongText::Changeset, &mut [0; 64])),
        Done,
    )
    .since(20),
    both(
        "XENVER_commandline2",
        "",
        |p| done(version::long_text(p, LongText::CommandLine, &mut [0; 600])),
        Fails(&[Errno::EPERM]),
    )
    .since(20),
    both(
        "XENVER_*",
        "unknown",
        |p| raw(p, HypercallNr::XEN_VERSION, 99, 0),
        Fails(&[Errno::ENOSYS]),
    ),
];
