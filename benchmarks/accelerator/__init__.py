"""Everything that is to be measured on an accelerator, in one command."""
