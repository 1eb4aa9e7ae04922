//! Paths in the store that hvmloader reads: `hvm/hvm_xs_strings.h`.

crate::facts::texts! {
    /// The folder.
    HVM_XS_HVMLOADER = "hvmloader";
    /// Which firmware to start.
    HVM_XS_BIOS = "hvmloader/bios";
    /// Where the machine's generation is told.
    HVM_XS_GENERATION_ID_ADDRESS = "hvmloader/generation-id-address";
    /// Whether memory may be moved for devices.
    HVM_XS_ALLOW_MEMORY_RELOCATE = "hvmloader/allow-memory-relocate";
    /// Whether the registers of Xen's PCI device are cached (Xen 4.21).
    HVM_XS_XEN_PLATFORM_PCI_BAR_UC = "hvmloader/pci/xen-platform-pci-bar-uc";
    /// Where the toolstack put ACPI tables.
    HVM_XS_ACPI_PT_ADDRESS = "hvmloader/acpi/address";
    /// Their bytes.
    HVM_XS_ACPI_PT_LENGTH = "hvmloader/acpi/length";
    /// Where the toolstack put SMBIOS tables.
    HVM_XS_SMBIOS_PT_ADDRESS = "hvmloader/smbios/address";
    /// Their bytes.
    HVM_XS_SMBIOS_PT_LENGTH = "hvmloader/smbios/length";
    /// Whether there is a battery.
    HVM_XS_SMBIOS_DEFAULT_BATTERY = "hvmloader/smbios/default_battery";
    /// The folder of texts for SMBIOS tables.
    HVM_XS_BIOS_STRINGS = "bios-strings";
    /// The firmware's vendor.
    HVM_XS_BIOS_VENDOR = "bios-strings/bios-vendor";
    /// Its version.
    HVM_XS_BIOS_VERSION = "bios-strings/bios-version";
    /// The machine's maker.
    HVM_XS_SYSTEM_MANUFACTURER = "bios-strings/system-manufacturer";
    /// Its name.
    HVM_XS_SYSTEM_PRODUCT_NAME = "bios-strings/system-product-name";
    /// Its version.
    HVM_XS_SYSTEM_VERSION = "bios-strings/system-version";
    /// Its number.
    HVM_XS_SYSTEM_SERIAL_NUMBER = "bios-strings/system-serial-number";
    /// The board's maker.
    HVM_XS_BASEBOARD_MANUFACTURER = "bios-strings/baseboard-manufacturer";
    /// Its name.
    HVM_XS_BASEBOARD_PRODUCT_NAME = "bios-strings/baseboard-product-name";
    /// Its version.
    HVM_XS_BASEBOARD_VERSION = "bios-strings/baseboard-version";
    /// Its number.
    HVM_XS_BASEBOARD_SERIAL_NUMBER = "bios-strings/baseboard-serial-number";
    /// Its owner's tag.
    HVM_XS_BASEBOARD_ASSET_TAG = "bios-strings/baseboard-asset-tag";
    /// Its place.
    HVM_XS_BASEBOARD_LOCATION_IN_CHASSIS = "bios-strings/baseboard-location-in-chassis";
    /// The case's maker.
    HVM_XS_ENCLOSURE_MANUFACTURER = "bios-strings/enclosure-manufacturer";
    /// Its number.
    HVM_XS_ENCLOSURE_SERIAL_NUMBER = "bios-strings/enclosure-serial-number";
    /// Its owner's tag.
    HVM_XS_ENCLOSURE_ASSET_TAG = "bios-strings/enclosure-asset-tag";
    /// The battery's maker.
    HVM_XS_BATTERY_MANUFACTURER = "bios-strings/battery-manufacturer";
    /// Its name.
    HVM_XS_BATTERY_DEVICE_NAME = "bios-strings/battery-device-name";
    /// Other texts, by number.
    HVM_XS_OEM_STRINGS = "bios-strings/oem-%d";
}
