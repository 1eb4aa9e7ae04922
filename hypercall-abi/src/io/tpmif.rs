//! Trusted platform modules: `xen/include/public/io/tpmif.h`.

use crate::GrantRef;

crate::facts::open_enum! {
    /// Who has the page.
    pub struct TpmifState(u8) {
        /// Nobody: the last command has ended.
        IDLE = 0, "TPMIF_STATE_IDLE";
        /// The backend: there is a command.
        SUBMIT = 1, "TPMIF_STATE_SUBMIT";
        /// The frontend: there is an answer.
        FINISH = 2, "TPMIF_STATE_FINISH";
        /// The backend: the command is to end.
        CANCEL = 3, "TPMIF_STATE_CANCEL";
    }
}

crate::facts::constants! {
    /// Requests of the older ring.
    TPMIF_TX_RING_SIZE: usize = 1;
}

crate::facts::structs! {
    /// A request of the older ring.
    "tpmif_tx_request" 16
    pub struct TpmifTxRequest {
        /// The machine address of the page.
        addr: u64 = 0,
        /// The page.
        r#ref: GrantRef = 8,
        /// Zero.
        unused: u16 = 12,
        /// Bytes.
        size: u16 = 14,
    }

    /// The older ring.
    "tpmif_ring" 16
    pub struct TpmifRing {
        /// Its only request.
        req: TpmifTxRequest = 0,
    }

    /// The older ring's page.
    "tpmif_tx_interface" 16
    pub struct TpmifTxInterface {
        /// The ring.
        ring: TpmifRing = 0,
    }

    /// The head of the page; references of more pages follow, then the command.
    "tpmif_shared_page" 8
    pub struct TpmifSharedPage {
        /// Bytes of the command or the answer.
        length: u32 = 0,
        /// Who has the page.
        state: TpmifState = 4,
        /// The locality of the command.
        locality: u8 = 5,
        /// Zero.
        pad: u8 = 6,
        /// How many more pages.
        nr_extra_pages: u8 = 7,
    }
}
