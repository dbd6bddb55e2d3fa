"""Earlier ELMo formats: bilm-tf, AllenNLP, NLPL and ELMoForManyLangs."""
