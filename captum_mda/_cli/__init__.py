"""The commands behind `captum_mda.cli`."""
