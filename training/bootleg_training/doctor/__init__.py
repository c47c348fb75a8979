"""What ``bootleg doctor`` looks at; each module gives lines for its report and changes nothing."""
