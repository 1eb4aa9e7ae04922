//! The store's messages: `xen/include/public/io/xs_wire.h`.
//!
//! ```text
//! | type | req_id | tx_id | len | payload: len bytes, at most 4096 |
//! ```

use crate::Port;

crate::facts::open_enum! {
    /// What a message is.
    pub struct XsMessageType(u32) {
        /// A command for the store itself.
        CONTROL = 0, "XS_CONTROL";
        /// List a node's children.
        DIRECTORY = 1, "XS_DIRECTORY";
        /// Read a node.
        READ = 2, "XS_READ";
        /// Read a node's permissions.
        GET_PERMS = 3, "XS_GET_PERMS";
        /// Tell when a node changes.
        WATCH = 4, "XS_WATCH";
        /// No longer.
        UNWATCH = 5, "XS_UNWATCH";
        /// Start a transaction.
        TRANSACTION_START = 6, "XS_TRANSACTION_START";
        /// End it.
        TRANSACTION_END = 7, "XS_TRANSACTION_END";
        /// Tell about a domain (toolstack).
        INTRODUCE = 8, "XS_INTRODUCE";
        /// Tell that it has gone (toolstack).
        RELEASE = 9, "XS_RELEASE";
        /// A domain's folder.
        GET_DOMAIN_PATH = 10, "XS_GET_DOMAIN_PATH";
        /// Write a node.
        WRITE = 11, "XS_WRITE";
        /// Make a node.
        MKDIR = 12, "XS_MKDIR";
        /// Remove a node and all below it.
        RM = 13, "XS_RM";
        /// Write a node's permissions.
        SET_PERMS = 14, "XS_SET_PERMS";
        /// A node has changed (answers nothing).
        WATCH_EVENT = 15, "XS_WATCH_EVENT";
        /// The answer is an error: its name.
        ERROR = 16, "XS_ERROR";
        /// Is the domain known?
        IS_DOMAIN_INTRODUCED = 17, "XS_IS_DOMAIN_INTRODUCED";
        /// A domain went on (toolstack).
        RESUME = 18, "XS_RESUME";
        /// A domain serves another (toolstack).
        SET_TARGET = 19, "XS_SET_TARGET";
        /// Drop all watches and transactions.
        RESET_WATCHES = 21, "XS_RESET_WATCHES";
        /// List a node's children from an offset on.
        DIRECTORY_PART = 22, "XS_DIRECTORY_PART";
        /// Read what the store can do for a domain (Xen 4.21).
        GET_FEATURE = 23, "XS_GET_FEATURE";
        /// Choose what the store can do for a domain (toolstack, Xen 4.21).
        SET_FEATURE = 24, "XS_SET_FEATURE";
        /// Read a domain's quota (Xen 4.21).
        GET_QUOTA = 25, "XS_GET_QUOTA";
        /// Set a domain's quota (toolstack, Xen 4.21).
        SET_QUOTA = 26, "XS_SET_QUOTA";
        /// No message.
        INVALID = 65_535, "XS_INVALID";
    }
}

crate::facts::open_enum! {
    /// What the parts of a watch event are.
    pub struct XsWatchField(u32) {
        /// The path.
        PATH = 0, "XS_WATCH_PATH";
        /// The token.
        TOKEN = 1, "XS_WATCH_TOKEN";
    }
}

crate::facts::flags! {
    /// [`XenstoreDomainInterface::server_features`].
    pub struct XenstoreFeatures: u32 {
        /// The connection can be made again.
        RECONNECTION = 1 << 0, "XENSTORE_SERVER_FEATURE_RECONNECTION";
        /// [`XenstoreDomainInterface::error`] is set.
        ERROR = 1 << 1, "XENSTORE_SERVER_FEATURE_ERROR";
        /// Watches may be limited in depth (Xen 4.21).
        WATCHDEPTH = 1 << 2, "XENSTORE_SERVER_FEATURE_WATCHDEPTH";
        /// Permissions may name any domain (Xen 4.22).
        DOMID_ANY = 1 << 3, "XENSTORE_SERVER_FEATURE_DOMID_ANY";
    }
}

crate::facts::constants! {
    /// The older name of [`XsMessageType::CONTROL`].
    XS_DEBUG: u32 = 0;
    /// Bytes of each of the rings.
    XENSTORE_RING_SIZE: usize = 1024;
    /// Bytes of a payload, at most.
    XENSTORE_PAYLOAD_MAX: usize = 4096;
    /// Bytes of an absolute path, at most.
    XENSTORE_ABS_PATH_MAX: usize = 3072;
    /// Bytes of a relative path, at most.
    XENSTORE_REL_PATH_MAX: usize = 2048;
    /// [`XenstoreDomainInterface::connection`]: it stands.
    XENSTORE_CONNECTED: u32 = 0;
    /// [`XenstoreDomainInterface::connection`]: it is being made again.
    XENSTORE_RECONNECT: u32 = 1;
    /// [`XenstoreDomainInterface::error`]: none.
    XENSTORE_ERROR_NONE: u32 = 0;
    /// [`XenstoreDomainInterface::error`]: the connection broke.
    XENSTORE_ERROR_COMM: u32 = 1;
    /// [`XenstoreDomainInterface::error`]: an index of the ring is wrong.
    XENSTORE_ERROR_RINGIDX: u32 = 2;
    /// [`XenstoreDomainInterface::error`]: a message is wrong.
    XENSTORE_ERROR_PROTO: u32 = 3;
}

crate::facts::texts! {
    /// An older request's mode: the node is there.
    XS_WRITE_NONE = "NONE";
    /// An older request's mode: it may have to be made.
    XS_WRITE_CREATE = "CREATE";
    /// An older request's mode: it must not be there.
    XS_WRITE_CREATE_EXCL = "CREATE|EXCL";
}

crate::facts::structs! {
    /// The head of a message; its payload follows.
    "xsd_sockmsg" 16
    pub struct XsdSockmsg {
        /// What it is.
        r#type: XsMessageType = 0,
        /// The request's number, which the answer has too.
        req_id: u32 = 4,
        /// The transaction; zero: none.
        tx_id: u32 = 8,
        /// Bytes of the payload.
        len: u32 = 12,
    }

    /// The store's page: two byte rings.
    "xenstore_domain_interface" 2080
    pub struct XenstoreDomainInterface {
        /// From the guest.
        req: [u8; 1024] = 0,
        /// To the guest.
        rsp: [u8; 1024] = 1024,
        /// Read from the guest up to here.
        req_cons: u32 = 2048,
        /// Written by the guest up to here.
        req_prod: u32 = 2052,
        /// Read by the guest up to here.
        rsp_cons: u32 = 2056,
        /// Written for the guest up to here.
        rsp_prod: u32 = 2060,
        /// [`XenstoreFeatures`].
        server_features: u32 = 2064,
        /// `XENSTORE_CONNECTED` or `XENSTORE_RECONNECT`.
        connection: u32 = 2068,
        /// `XENSTORE_ERROR_*`.
        error: u32 = 2072,
        /// The port, for a guest that was started before the store (Xen 4.21).
        evtchn_port: Port = 2076,
    }
}
