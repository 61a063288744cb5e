"""What is watched and tidied after publishing: drift, alerts, and which versions stay."""
