"""The bundled models: data of the package `emulator.models`, and the scripts that trained them."""
