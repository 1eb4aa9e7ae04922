//! Which of a domain's quotas a refusal is about.

use hypercall_abi::{Errno, io::xs_wire::XsMessageType};

/// A limit that xenstored has for each domain.
///
/// The server does not name the quota: it is concluded from the request that was
/// refused. The numbers are xenstored's defaults; an administrator may have set others.
/// Source: `hard_quotas` in `tools/xenstored/domain.c` of Xen 4.20, and what its
/// requests check; `EQUOTA` is that of `tools/ocaml/xenstored/process.ml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Quota {
    /// `transactions`: transactions that are open at once. The only one that passes by
    /// itself: when another transaction of this domain ends.
    Transactions,
    /// `transaction-nodes`: nodes that one transaction reads or writes.
    TransactionNodes,
    /// `nodes`: nodes that the domain owns. Those that the toolstack made for its devices
    /// count: about 11 for a disk and 18 for a network interface. A node that makes the
    /// names in its directory exceed `node-size` is refused by the same error.
    Nodes,
    /// `node-size`: bytes of one node, with its permissions and the names below it.
    NodeSize,
    /// `node-permissions`: permissions of one node.
    Permissions,
    /// `watches`: watches that are set at once.
    Watches,
}

/// A value that can be over `node-size`, whatever else the node has.
const MAX_NODE_BYTES: usize = 2048;

impl Quota {
    /// The server's name of it, as `xenstore-control quota` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transactions => "transactions",
            Self::TransactionNodes => "transaction-nodes",
            Self::Nodes => "nodes",
            Self::NodeSize => "node-size",
            Self::Permissions => "node-permissions",
            Self::Watches => "watches",
        }
    }

    /// The number that xenstored has unless it is told another.
    pub const fn default_limit(self) -> u32 {
        match self {
            Self::Transactions => 10,
            Self::TransactionNodes => 1024,
            Self::Nodes => 1000,
            Self::NodeSize => MAX_NODE_BYTES as u32,
            Self::Permissions => 5,
            Self::Watches => 128,
        }
    }

    /// Of a refused request: its type, its transaction (0: none), the length of its
    /// payload.
    pub(crate) fn of(
        kind: XsMessageType,
        tx_id: u32,
        len_bytes: usize,
        errno: Errno,
    ) -> Option<Self> {
        match (kind, errno) {
            // Later servers say ENOSPC.
            (XsMessageType::WATCH, Errno::E2BIG | Errno::ENOSPC) => Some(Self::Watches),
            // Of others, it is the answer that does not fit into a message.
            (XsMessageType::WRITE, Errno::E2BIG) => Some(Self::NodeSize),
            (_, errno) if errno != Errno::ENOSPC => None,
            (XsMessageType::TRANSACTION_START, _) => Some(Self::Transactions),
            (XsMessageType::WRITE, _) if len_bytes > MAX_NODE_BYTES => Some(Self::NodeSize),
            (XsMessageType::WRITE | XsMessageType::MKDIR | XsMessageType::TRANSACTION_END, _) => {
                Some(Self::Nodes)
            }
            (XsMessageType::SET_PERMS, _) => Some(Self::Permissions),
            _ if tx_id != 0 => Some(Self::TransactionNodes),
            _ => None,
        }
    }
}

impl core::fmt::Display for Quota {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let unit = match self {
            Self::Transactions => "open transactions",
            Self::TransactionNodes => "nodes in one transaction",
            Self::Nodes => "nodes",
            Self::NodeSize => "bytes in one node",
            Self::Permissions => "permissions of one node",
            Self::Watches => "watches",
        };
        write!(
            f,
            "the domain's quota of {unit} ({} by default)",
            self.default_limit()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_of_the_quota_that_the_request_meets() {
        let of = |kind, tx_id, len_bytes, errno| Quota::of(kind, tx_id, len_bytes, errno);
        for (kind, tx_id, len_bytes, errno, quota) in [
            (
                XsMessageType::TRANSACTION_START,
                0,
                1,
                Errno::ENOSPC,
                Some(Quota::Transactions),
            ),
            (
                XsMessageType::TRANSACTION_END,
                5,
                2,
                Errno::ENOSPC,
                Some(Quota::Nodes),
            ),
            (
                XsMessageType::WRITE,
                0,
                30,
                Errno::ENOSPC,
                Some(Quota::Nodes),
            ),
            (
                XsMessageType::WRITE,
                7,
                2049,
                Errno::ENOSPC,
                Some(Quota::NodeSize),
            ),
            (
                XsMessageType::WRITE,
                0,
                30,
                Errno::E2BIG,
                Some(Quota::NodeSize),
            ),
            (
                XsMessageType::MKDIR,
                0,
                9,
                Errno::ENOSPC,
                Some(Quota::Nodes),
            ),
            (
                XsMessageType::SET_PERMS,
                0,
                9,
                Errno::ENOSPC,
                Some(Quota::Permissions),
            ),
            (
                XsMessageType::WATCH,
                0,
                9,
                Errno::E2BIG,
                Some(Quota::Watches),
            ),
            (
                XsMessageType::WATCH,
                0,
                9,
                Errno::ENOSPC,
                Some(Quota::Watches),
            ),
            (
                XsMessageType::READ,
                3,
                9,
                Errno::ENOSPC,
                Some(Quota::TransactionNodes),
            ),
            (XsMessageType::READ, 0, 9, Errno::ENOSPC, None),
            (XsMessageType::DIRECTORY, 0, 9, Errno::E2BIG, None),
            (XsMessageType::WRITE, 0, 9, Errno::EACCES, None),
            (XsMessageType::TRANSACTION_END, 0, 9, Errno::EAGAIN, None),
        ] {
            assert_eq!(
                of(kind, tx_id, len_bytes, errno),
                quota,
                "{kind:?} {errno:?}"
            );
        }
    }
}
