//! Sockets of the backend's: `xen/include/public/io/pvcalls.h`.

use crate::{GrantRef, Port};

crate::facts::open_enum! {
    /// What a request does.
    pub struct PvcallsCmd(u32) {
        /// Make a socket.
        SOCKET = 0, "PVCALLS_SOCKET";
        /// Connect it.
        CONNECT = 1, "PVCALLS_CONNECT";
        /// Close it.
        RELEASE = 2, "PVCALLS_RELEASE";
        /// Give it an address.
        BIND = 3, "PVCALLS_BIND";
        /// Wait for connections.
        LISTEN = 4, "PVCALLS_LISTEN";
        /// Take one.
        ACCEPT = 5, "PVCALLS_ACCEPT";
        /// Wait until there is one.
        POLL = 6, "PVCALLS_POLL";
    }
}

crate::facts::structs! {
    /// Make a socket.
    "xen_pvcalls_socket" 24
    pub struct PvcallsSocket {
        /// The frontend's number for it.
        id: u64 = 0,
        /// As in `socket`.
        domain: u32 = 8,
        /// As in `socket`.
        r#type: u32 = 12,
        /// As in `socket`.
        protocol: u32 = 16,
        /// Zero.
        pad: u32 = 20,
    }

    /// Connect a socket.
    "xen_pvcalls_connect" 56
    pub struct PvcallsConnect {
        /// Which.
        id: u64 = 0,
        /// The address.
        addr: [u8; 28] = 8,
        /// Its bytes.
        len: u32 = 36,
        /// Zero.
        flags: u32 = 40,
        /// The page of indices of its ring.
        r#ref: GrantRef = 44,
        /// Its port.
        evtchn: Port = 48,
        /// Zero.
        pad: u32 = 52,
    }

    /// Close a socket.
    "xen_pvcalls_release" 16
    pub struct PvcallsRelease {
        /// Which.
        id: u64 = 0,
        /// Not zero: the pages will be used again.
        reuse: u8 = 8,
        /// Zero.
        pad: [u8; 7] = 9,
    }

    /// Give a socket an address.
    "xen_pvcalls_bind" 40
    pub struct PvcallsBind {
        /// Which.
        id: u64 = 0,
        /// The address.
        addr: [u8; 28] = 8,
        /// Its bytes.
        len: u32 = 36,
    }

    /// Wait for connections.
    "xen_pvcalls_listen" 16
    pub struct PvcallsListen {
        /// Which socket.
        id: u64 = 0,
        /// How many may wait.
        backlog: u32 = 8,
        /// Zero.
        pad: u32 = 12,
    }

    /// Take a connection.
    "xen_pvcalls_accept" 24
    pub struct PvcallsAccept {
        /// Which socket.
        id: u64 = 0,
        /// The frontend's number for the new one.
        id_new: u64 = 8,
        /// The page of indices of its ring.
        r#ref: GrantRef = 16,
        /// Its port.
        evtchn: Port = 20,
    }

    /// Wait until there is a connection.
    "xen_pvcalls_poll" 8
    pub struct PvcallsPoll {
        /// Which socket.
        id: u64 = 0,
    }

    /// The size of them all.
    "xen_pvcalls_dummy" 56
    pub struct PvcallsDummy {
        /// Nothing.
        dummy: [u8; 56] = 0,
    }

    /// A request.
    "xen_pvcalls_request" 64
    pub struct PvcallsRequest {
        /// The frontend's number for it.
        req_id: u32 = 0,
        /// What to do.
        cmd: PvcallsCmd = 4,
        /// One of the structures above.
        u: [u64; 7] = 8,
    }

    /// It was made.
    "_xen_pvcalls_socket" 8
    pub struct PvcallsSocketResponse {
        /// Which.
        id: u64 = 0,
    }

    /// It was connected.
    "_xen_pvcalls_connect" 8
    pub struct PvcallsConnectResponse {
        /// Which.
        id: u64 = 0,
    }

    /// It was closed.
    "_xen_pvcalls_release" 8
    pub struct PvcallsReleaseResponse {
        /// Which.
        id: u64 = 0,
    }

    /// It has an address.
    "_xen_pvcalls_bind" 8
    pub struct PvcallsBindResponse {
        /// Which.
        id: u64 = 0,
    }

    /// It listens.
    "_xen_pvcalls_listen" 8
    pub struct PvcallsListenResponse {
        /// Which.
        id: u64 = 0,
    }

    /// It was taken.
    "_xen_pvcalls_accept" 8
    pub struct PvcallsAcceptResponse {
        /// Which.
        id: u64 = 0,
    }

    /// There is a connection.
    "_xen_pvcalls_poll" 8
    pub struct PvcallsPollResponse {
        /// Which.
        id: u64 = 0,
    }

    /// The size of them all.
    "_xen_pvcalls_dummy" 8
    pub struct PvcallsDummyResponse {
        /// Nothing.
        dummy: u64 = 0,
    }

    /// An answer.
    "xen_pvcalls_response" 24
    pub struct PvcallsResponse {
        /// The request's number.
        req_id: u32 = 0,
        /// What it did.
        cmd: PvcallsCmd = 4,
        /// Zero, or a negative error number.
        ret: i32 = 8,
        /// Zero.
        pad: u32 = 12,
        /// One of the structures above.
        u: u64 = 16,
    }

    /// A socket's page of indices; the references of the data's pages follow.
    "pvcalls_data_intf" 132
    pub struct PvcallsDataIntf {
        /// Read by the frontend up to here.
        in_cons: u32 = 0,
        /// Written for it up to here.
        in_prod: u32 = 4,
        /// The error that ended it, negative.
        in_error: i32 = 8,
        /// Zero.
        pad1: [u8; 52] = 12,
        /// Read by the backend up to here.
        out_cons: u32 = 64,
        /// Written for it up to here.
        out_prod: u32 = 68,
        /// The error that ended it, negative.
        out_error: i32 = 72,
        /// Zero.
        pad2: [u8; 52] = 76,
        /// Pages of data, as a power of two.
        ring_order: u32 = 128,
    }
}
