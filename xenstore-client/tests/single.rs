//! What may be sent to another thread, shared with one, or copied: of what owns or borrows
//! a connection.

use mock_hypervisor::{Domain, OneThread};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use xenstore_client::{
    Client, InTurn, Ring, Subscription, Transaction, Tree, Watch, machine::Machine,
};

type Shared = Ring<'static, &'static Domain>;
type Local = Ring<'static, OneThread>;

// One connection, that tasks on any thread use, where the platform may be used there.
assert_impl_all!(Shared: Send, Sync);
assert_impl_all!(Client<Shared>: Send, Sync);
assert_impl_all!(Tree<'static, Shared>: Send, Sync);
assert_impl_all!(Transaction<'static, Shared>: Send, Sync);
assert_impl_all!(InTurn<'static, Shared>: Send, Sync);
assert_impl_all!(Watch<'static, Shared>: Send, Sync);
assert_impl_all!(Subscription<'static, Shared>: Send, Sync);
assert_impl_all!(Machine: Send, Sync);

assert_not_impl_any!(Local: Send, Sync);
assert_not_impl_any!(Client<Local>: Send, Sync);
assert_not_impl_any!(Tree<'static, Local>: Send, Sync);
assert_not_impl_any!(Transaction<'static, Local>: Send, Sync);
assert_not_impl_any!(InTurn<'static, Local>: Send, Sync);
assert_not_impl_any!(Watch<'static, Local>: Send, Sync);
assert_not_impl_any!(Subscription<'static, Local>: Send, Sync);

// One of each owns its end of the ring, its place at the server, or its turn.
assert_not_impl_any!(Shared: Clone, Copy);
assert_not_impl_any!(Client<Shared>: Clone, Copy);
assert_not_impl_any!(Machine: Clone, Copy);
assert_not_impl_any!(Transaction<'static, Shared>: Clone, Copy);
assert_not_impl_any!(InTurn<'static, Shared>: Clone, Copy);
assert_not_impl_any!(Watch<'static, Shared>: Clone, Copy);
assert_not_impl_any!(Subscription<'static, Shared>: Clone, Copy);

#[cfg(feature = "std")]
mod hosts {
    use super::*;
    use xenstore_client::Stream;

    assert_impl_all!(Stream: Send, Sync);
    assert_impl_all!(Client<Stream>: Send, Sync);
    assert_not_impl_any!(Stream: Clone, Copy);
}
