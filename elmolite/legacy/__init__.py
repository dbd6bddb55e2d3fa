"""Models of bilm-tf, AllenNLP, simple_elmo, the NLPL repository and ELMoForManyLangs: read, and some written."""
