"""What `emulator check` looks at, one question a file; `emulator.campaign.check` puts them together."""
