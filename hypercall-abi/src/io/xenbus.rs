//! How far a frontend and a backend have come: `xen/include/public/io/xenbus.h`.

crate::facts::open_enum! {
    /// A device's state, as both sides write it into the store.
    pub struct XenbusState(u32) {
        /// Nothing is known.
        UNKNOWN = 0, "XenbusStateUnknown";
        /// It is starting.
        INITIALISING = 1, "XenbusStateInitialising";
        /// The backend waits for the frontend's details.
        INITWAIT = 2, "XenbusStateInitWait";
        /// The frontend has told them and waits for the backend.
        INITIALISED = 3, "XenbusStateInitialised";
        /// It works.
        CONNECTED = 4, "XenbusStateConnected";
        /// It is ending.
        CLOSING = 5, "XenbusStateClosing";
        /// It has ended.
        CLOSED = 6, "XenbusStateClosed";
        /// It is changing while it works.
        RECONFIGURING = 7, "XenbusStateReconfiguring";
        /// It has changed.
        RECONFIGURED = 8, "XenbusStateReconfigured";
    }
}
