"""Networks: trained stand-ins for a metric."""
