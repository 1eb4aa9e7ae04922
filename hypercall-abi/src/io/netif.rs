//! Network interfaces: `xen/include/public/io/netif.h`.
//!
//! Two rings, transmit and receive, and one for control. A packet may take
//! several slots; slots for more information follow the first.

use crate::GrantRef;

crate::facts::open_enum! {
    /// How a packet ended.
    pub struct NetifStatus(i16) {
        /// It was sent.
        OKAY = 0, "NETIF_RSP_OKAY";
        /// It was dropped.
        DROPPED = -2, "NETIF_RSP_DROPPED";
        /// It was wrong.
        ERROR = -1, "NETIF_RSP_ERROR";
        /// The slot had no packet of its own.
        NULL = 1, "NETIF_RSP_NULL";
    }
}

crate::facts::flags! {
    /// [`NetifTxRequest::flags`].
    pub struct NetTxFlags: u16 {
        /// The checksum is still to be filled in.
        CSUM_BLANK = 1 << 0, "NETTXF_csum_blank";
        /// The checksum is known to be right.
        DATA_VALIDATED = 1 << 1, "NETTXF_data_validated";
        /// The packet goes on in the next slot.
        MORE_DATA = 1 << 2, "NETTXF_more_data";
        /// The next slot has more information.
        EXTRA_INFO = 1 << 3, "NETTXF_extra_info";
    }
}

crate::facts::flags! {
    /// [`NetifRxResponse::flags`].
    pub struct NetRxFlags: u16 {
        /// The checksum is known to be right.
        DATA_VALIDATED = 1 << 0, "NETRXF_data_validated";
        /// The checksum is still to be filled in.
        CSUM_BLANK = 1 << 1, "NETRXF_csum_blank";
        /// The packet goes on in the next slot.
        MORE_DATA = 1 << 2, "NETRXF_more_data";
        /// The next slot has more information.
        EXTRA_INFO = 1 << 3, "NETRXF_extra_info";
        /// The next slot starts a segmented packet (older).
        GSO_PREFIX = 1 << 4, "NETRXF_gso_prefix";
    }
}

crate::facts::open_enum! {
    /// What the information is.
    pub struct NetifExtraType(u8) {
        /// Nothing.
        NONE = 0, "XEN_NETIF_EXTRA_TYPE_NONE";
        /// How to segment: [`NetifExtraGso`].
        GSO = 1, "XEN_NETIF_EXTRA_TYPE_GSO";
        /// Receive a group: [`NetifExtraMcast`].
        MCAST_ADD = 2, "XEN_NETIF_EXTRA_TYPE_MCAST_ADD";
        /// No longer: [`NetifExtraMcast`].
        MCAST_DEL = 3, "XEN_NETIF_EXTRA_TYPE_MCAST_DEL";
        /// The packet's hash: [`NetifExtraHash`].
        HASH = 4, "XEN_NETIF_EXTRA_TYPE_HASH";
        /// One more than the greatest.
        MAX = 5, "XEN_NETIF_EXTRA_TYPE_MAX";
    }
}

crate::facts::flags! {
    /// [`NetifExtraInfo::flags`].
    pub struct NetifExtraFlags: u8 {
        /// The next slot has more information.
        MORE = 1 << 0, "XEN_NETIF_EXTRA_FLAG_MORE";
    }
}

crate::facts::open_enum! {
    /// What is segmented.
    pub struct NetifGsoType(u8) {
        /// Nothing.
        NONE = 0, "XEN_NETIF_GSO_TYPE_NONE";
        /// TCP over IPv4.
        TCPV4 = 1, "XEN_NETIF_GSO_TYPE_TCPV4";
        /// TCP over IPv6.
        TCPV6 = 2, "XEN_NETIF_GSO_TYPE_TCPV6";
    }
}

crate::facts::flags! {
    /// What is hashed.
    pub struct NetifHashTypes: u32 {
        /// IPv4 addresses.
        IPV4 = 1 << 0, "XEN_NETIF_CTRL_HASH_TYPE_IPV4";
        /// IPv4 addresses and TCP ports.
        IPV4_TCP = 1 << 1, "XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP";
        /// IPv6 addresses.
        IPV6 = 1 << 2, "XEN_NETIF_CTRL_HASH_TYPE_IPV6";
        /// IPv6 addresses and TCP ports.
        IPV6_TCP = 1 << 3, "XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP";
    }
}

crate::facts::open_enum! {
    /// What a control request does.
    pub struct NetifCtrlType(u16) {
        /// Nothing.
        INVALID = 0, "XEN_NETIF_CTRL_TYPE_INVALID";
        /// Which hashes are offered?
        GET_HASH_FLAGS = 1, "XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS";
        /// Choose them.
        SET_HASH_FLAGS = 2, "XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS";
        /// Set the key.
        SET_HASH_KEY = 3, "XEN_NETIF_CTRL_TYPE_SET_HASH_KEY";
        /// How big may the mapping be?
        GET_HASH_MAPPING_SIZE = 4, "XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE";
        /// Choose its size.
        SET_HASH_MAPPING_SIZE = 5, "XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE";
        /// Set a part of it.
        SET_HASH_MAPPING = 6, "XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING";
        /// Choose the algorithm.
        SET_HASH_ALGORITHM = 7, "XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM";
        /// How many grants may be kept mapped?
        GET_GREF_MAPPING_SIZE = 8, "XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE";
        /// Keep grants mapped.
        ADD_GREF_MAPPING = 9, "XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING";
        /// No longer.
        DEL_GREF_MAPPING = 10, "XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING";
    }
}

crate::facts::open_enum! {
    /// How it ended.
    pub struct NetifCtrlStatus(u32) {
        /// It was done.
        SUCCESS = 0, "XEN_NETIF_CTRL_STATUS_SUCCESS";
        /// The backend cannot.
        NOT_SUPPORTED = 1, "XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED";
        /// It was wrong.
        INVALID_PARAMETER = 2, "XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER";
        /// It was too much.
        BUFFER_OVERFLOW = 3, "XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW";
    }
}

crate::facts::constants! {
    /// Slots of a packet that every backend takes.
    XEN_NETIF_NR_SLOTS_MIN: usize = 18;
    /// Bytes of a packet, at most.
    XEN_NETIF_MAX_TX_SIZE: usize = 65_535;
    /// [`NetifExtraHash::algorithm`]: none.
    XEN_NETIF_CTRL_HASH_ALGORITHM_NONE: u8 = 0;
    /// [`NetifExtraHash::algorithm`]: Toeplitz.
    XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ: u8 = 1;
    /// [`NetifGref::flags`]: for reading only.
    XEN_NETIF_CTRLF_GREF_READONLY: u16 = 1, "XEN_NETIF_CTRLF_GREF_readonly";
}

crate::facts::structs! {
    /// A packet, or a part of one, to send.
    "netif_tx_request" 12
    pub struct NetifTxRequest {
        /// Its page.
        gref: GrantRef = 0,
        /// Its first byte there.
        offset: u16 = 4,
        /// [`NetTxFlags`].
        flags: u16 = 6,
        /// The frontend's number for it.
        id: u16 = 8,
        /// Its bytes: of the whole packet in the first slot, of the part in
        /// others.
        size: u16 = 10,
    }

    /// It was sent.
    "netif_tx_response" 4
    pub struct NetifTxResponse {
        /// The request's number.
        id: u16 = 0,
        /// How it ended.
        status: NetifStatus = 2,
    }

    /// A page to receive into.
    "netif_rx_request" 8
    pub struct NetifRxRequest {
        /// The frontend's number for it.
        id: u16 = 0,
        /// Zero.
        pad: u16 = 2,
        /// The page.
        gref: GrantRef = 4,
    }

    /// A packet, or a part of one, was received.
    "netif_rx_response" 8
    pub struct NetifRxResponse {
        /// The request's number.
        id: u16 = 0,
        /// Its first byte in the page.
        offset: u16 = 2,
        /// [`NetRxFlags`].
        flags: u16 = 4,
        /// Its bytes, or a negative [`NetifStatus`].
        status: i16 = 6,
    }

    /// More about a packet, in a slot of its own.
    "netif_extra_info" 8
    pub struct NetifExtraInfo {
        /// What it is.
        r#type: NetifExtraType = 0,
        /// [`NetifExtraFlags`].
        flags: u8 = 1,
        /// [`NetifExtraGso`], [`NetifExtraMcast`] or [`NetifExtraHash`].
        u: [u16; 3] = 2,
    }

    /// How to segment a packet.
    "netif_extra_info.u.gso" 6
    pub struct NetifExtraGso {
        /// Bytes of a segment.
        size: u16 = 0,
        /// What it is.
        r#type: NetifGsoType = 2,
        /// Zero.
        pad: u8 = 3,
        /// Zero.
        features: u16 = 4,
    }

    /// A group.
    "netif_extra_info.u.mcast" 6
    pub struct NetifExtraMcast {
        /// Its hardware address.
        addr: [u8; 6] = 0,
    }

    /// A packet's hash.
    "netif_extra_info.u.hash" 6
    pub struct NetifExtraHash {
        /// Its type: the number of the bit in [`NetifHashTypes`].
        r#type: u8 = 0,
        /// `XEN_NETIF_CTRL_HASH_ALGORITHM_*`.
        algorithm: u8 = 1,
        /// Its value.
        value: [u8; 4] = 2,
    }

    /// A request of the control ring.
    "xen_netif_ctrl_request" 16
    pub struct NetifCtrlRequest {
        /// The frontend's number for it.
        id: u16 = 0,
        /// What to do.
        r#type: NetifCtrlType = 2,
        /// With what.
        data: [u32; 3] = 4,
    }

    /// Its answer.
    "xen_netif_ctrl_response" 12
    pub struct NetifCtrlResponse {
        /// The request's number.
        id: u16 = 0,
        /// What it did.
        r#type: NetifCtrlType = 2,
        /// How it ended.
        status: NetifCtrlStatus = 4,
        /// The answer.
        data: u32 = 8,
    }

    /// A grant to keep mapped.
    "xen_netif_gref" 8
    pub struct NetifGref {
        /// Which.
        r#ref: GrantRef = 0,
        /// Zero or [`XEN_NETIF_CTRLF_GREF_READONLY`].
        flags: u16 = 4,
        /// How it ended (out).
        status: u16 = 6,
    }
}
